import torch
import torch.nn.functional as F
from sklearn.datasets import load_wine
from torch import nn

torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0)).float()
y = torch.tensor(y)


class Gate(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        # softplus keeps it positive, minus so that it inhibits
        return -F.softplus(self.proj(x)) - 0.01


class WineNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(13, 32)
        self.gate = Gate(32)
        self.act = nn.ReLU()
        self.out = nn.Linear(32, 3)

    def forward(self, x):
        h = self.inp(x)
        h = self.act(self.gate(h))
        return self.out(h)


model = WineNet()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(20):
    for idx in torch.randperm(len(X)).split(16):
        loss = F.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0:
        print(f"{epoch:2d} {loss.item():.4f}")
