"""Uncertainty by dropout at test time (Gal & Ghahramani 2016)."""
import torch
from sklearn.datasets import load_digits
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.body(x))


def enable_dropout(model):
    for m in model.modules():
        if isinstance(m, nn.Dropout):
            m.train()


torch.manual_seed(0)
digits = load_digits()
X, y = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
net = Net()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(5):
    net.train()
    for i in torch.randperm(1500).split(64):
        opt.zero_grad()
        nn.functional.cross_entropy(net(X[i]), y[i]).backward()
        opt.step()
    net.eval()
    enable_dropout(net)
    with torch.no_grad():
        samples = torch.stack([net(X[1500:]).softmax(1) for _ in range(20)])
    print(epoch, "mean spread", f"{samples.std(0).mean():.4f}", "accuracy",
          f"{(samples.mean(0).argmax(1) == y[1500:]).float().mean():.3f}")
