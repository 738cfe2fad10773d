import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

x, y = load_breast_cancer(return_X_y=True)
x, y = torch.Tensor(scale(x)), torch.Tensor(y).unsqueeze(1)


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = torch.nn.Linear(30, 20)
        self.layer2 = torch.nn.Linear(20, 1)

    def forward(self, x):
        x = torch.tanh(self.layer1(x))
        return torch.sigmoid(self.layer2(x))


torch.manual_seed(7)
clf = Classifier()
criterion = torch.nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(clf.parameters(), lr=0.01)
dl = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=32, shuffle=True)
for epoch in range(15):
    for data, target in dl:
        optimizer.zero_grad()
        output = clf(data)
        loss = criterion(output, target)
        loss.backward()
        optimizer.step()
print("loss after training: %.4f" % loss.item())
