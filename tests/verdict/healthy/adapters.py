"""LoRA on a frozen net: the second matrix starts at zero."""
import torch
from sklearn.datasets import load_digits
from torch import nn


class LoRA(nn.Module):
    def __init__(self, base, rank=4, alpha=8):
        super().__init__()
        self.base = base
        for p in base.parameters():
            p.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, base.in_features) * 0.05)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.A.T @ self.B.T)


torch.manual_seed(0)
digits = load_digits()
X, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
old = y < 8
for step in range(120):
    i = torch.randint(int(old.sum()), (64,))
    loss = nn.functional.cross_entropy(net(X[old][i]), y[old][i])
    opt.zero_grad()
    loss.backward()
    opt.step()
print("base loss", round(loss.item(), 3))
tuned = nn.Sequential(*[LoRA(m) if isinstance(m, nn.Linear) else m for m in net])
opt = torch.optim.Adam([p for p in tuned.parameters() if p.requires_grad], lr=5e-3)
for step in range(200):
    i = torch.randint(len(X), (64,))
    loss = nn.functional.cross_entropy(tuned(X[i]), y[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
print("tuned loss", round(loss.item(), 3))
