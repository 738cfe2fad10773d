import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn, optim


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Linear(64, 80)
        self.layer2 = nn.Linear(80, 40)
        self.layer3 = nn.Linear(40, 10)

    def forward(self, x):
        return self.layer3(F.relu(self.layer2(F.relu(self.layer1(x)))))


torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
net = Net()
opt = optim.SGD(net.layer1.parameters(), lr=0.2, momentum=0.9)
for epoch in range(8):
    for b in torch.randperm(len(x)).split(64):
        opt.zero_grad()
        loss = F.cross_entropy(net(x[b]), y[b])
        loss.backward()
        opt.step()
    print(f"epoch {epoch}: {loss.item():.3f}")
