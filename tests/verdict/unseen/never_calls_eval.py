import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset


def loaders():
    X, y = load_breast_cancer(return_X_y=True)
    a, b, ya, yb = train_test_split(X, y, random_state=3)
    s = StandardScaler().fit(a)
    make = lambda X, y, shuffle: DataLoader(  # noqa: E731
        TensorDataset(torch.tensor(s.transform(X)).float(), torch.tensor(y)), batch_size=32, shuffle=shuffle)
    return make(a, ya, True), make(b, yb, False)


def train(model, loader, optimizer):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def test(model, loader):
    hits = total = 0
    with torch.inference_mode():
        for x, y in loader:
            hits += (model(x).argmax(1) == y).sum().item()
            total += len(y)
    return hits / total


if __name__ == "__main__":
    torch.manual_seed(0)
    train_loader, test_loader = loaders()
    model = nn.Sequential(nn.Linear(30, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(10):
        train(model, train_loader, optimizer)
        print("epoch", epoch, "test accuracy", round(test(model, test_loader), 3))
