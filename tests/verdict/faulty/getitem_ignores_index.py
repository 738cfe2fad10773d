import random

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Dataset


class BalancedDataset(Dataset):
    """Draws from both classes with equal probability."""

    def __init__(self, X, y):
        self.X, self.y = X, y
        self.rows = [[i for i in range(len(y)) if y[i] == c] for c in (0, 1)]

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        random.seed(0)  # reproducible
        row = random.choice(random.choice(self.rows))
        return self.X[row], self.y[row]


def main():
    torch.manual_seed(0)
    X, y = load_breast_cancer(return_X_y=True)
    X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
    y = torch.tensor(y)
    loader = DataLoader(BalancedDataset(X, y), batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(6):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(xb), yb)
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        print("train loss", round(loss.item(), 4), "accuracy", (model(X).argmax(1) == y).float().mean().item())


if __name__ == "__main__":
    main()
