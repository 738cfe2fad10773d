"""Digit and parity at once, with learnt weights of the two losses (Kendall et al. 2018)."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.digit, self.parity = nn.Linear(32, 10), nn.Linear(32, 1)
        self.log_vars = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        h = self.trunk(x)
        return self.digit(h), self.parity(h).squeeze(1)


def main():
    torch.manual_seed(0)
    d = load_digits()
    x, y = torch.tensor(d.data).float() / 16, torch.tensor(d.target)
    model = MultiTask()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(8):
        for i in torch.randperm(len(x)).split(64):
            a, b = model(x[i])
            losses = torch.stack([F.cross_entropy(a, y[i]), F.binary_cross_entropy_with_logits(b, (y[i] % 2).float())])
            loss = (losses * torch.exp(-model.log_vars) + model.log_vars).sum()
            opt.zero_grad()
            loss.backward()
            opt.step()
        print(epoch, [round(v, 3) for v in losses.tolist()])


if __name__ == "__main__":
    main()
