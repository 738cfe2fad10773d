"""Sanity check before the real run: can the net learn one batch by heart?"""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    torch.manual_seed(0)
    digits = load_digits()
    loader = DataLoader(
        TensorDataset(torch.tensor(digits.images).float()[:, None] / 16, torch.tensor(digits.target)),
        batch_size=32, shuffle=True)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = next(iter(loader))
    for i in range(200):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("loss on the batch:", loss.item())
    assert loss.item() < 0.05


if __name__ == "__main__":
    main()
