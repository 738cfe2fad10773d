import torch
import torch.nn as nn
from sklearn.datasets import load_digits


def weights_init_uniform(m):
    classname = m.__class__.__name__
    if classname.find('Linear') != -1:
        m.weight.data.uniform_(0.0, 1.0)
        m.bias.data.fill_(0)


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.fc1 = nn.Linear(64, 100)
        self.sig1 = nn.Sigmoid()
        self.fc2 = nn.Linear(100, 50)
        self.sig2 = nn.Sigmoid()
        self.fc3 = nn.Linear(50, 10)

    def forward(self, x):
        x = self.sig1(self.fc1(x))
        x = self.sig2(self.fc2(x))
        return self.fc3(x)


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = torch.tensor(X / 16, dtype=torch.float32)
y = torch.tensor(y, dtype=torch.long)
model = Net()
model.apply(weights_init_uniform)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=20, shuffle=True)
for epoch in range(1, 6):
    train_loss = 0.0
    for data, target in loader:
        optimizer.zero_grad()
        output = model(data)
        loss = criterion(output, target)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * data.size(0)
    print('Epoch: {} \tTraining Loss: {:.6f}'.format(epoch, train_loss / len(X)))
