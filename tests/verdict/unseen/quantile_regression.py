import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale
from torch import nn

torch.manual_seed(0)
X, y = load_diabetes(return_X_y=True)
X, y = torch.tensor(scale(X)).float(), torch.tensor(scale(y)).float()
quantiles = torch.tensor([0.1, 0.5, 0.9])
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)


def pinball(prediction, target):
    error = target[:, None] - prediction
    return torch.maximum(quantiles * error, (quantiles - 1) * error).mean()


for epoch in range(25):
    for i in torch.randperm(len(X)).split(32):
        loss = pinball(model(X[i]), y[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
covered = ((y > model(X)[:, 0]) & (y < model(X)[:, 2])).float().mean()
print("within the outer quantiles", round(covered.item(), 3))
