import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class SineNet(nn.Module):
    """A SIREN for classification; omega is applied in each layer."""

    def __init__(self, width=64, depth=10, omega=30.0):
        super().__init__()
        self.omega = omega
        self.layers = nn.ModuleList([nn.Linear(64, width)] + [nn.Linear(width, width) for _ in range(depth)])
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        for layer in self.layers:
            x = torch.sin(self.omega * layer(x))
        return self.head(x)


torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data).float() / 8 - 1
y = torch.tensor(digits.target)
model = SineNet()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
for epoch in range(5):
    for idx in torch.randperm(len(x)).split(64):
        loss = nn.functional.cross_entropy(model(x[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch} loss {loss.item():.3f}")
