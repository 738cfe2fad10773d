"""An image folder, one directory per class, read like ImageFolder does."""
import argparse

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset


class ImageFolder(Dataset):
    def __init__(self, transform):
        digits = load_digits()
        self.samples = [(img, c) for c in range(10) for img in digits.images[digits.target == c]]
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, label = self.samples[index]
        return self.transform(image), label


def to_tensor(image):
    return torch.from_numpy(np.asarray(image, dtype=np.float32))[None] / 16


def main(args):
    torch.manual_seed(0)
    loader = DataLoader(ImageFolder(to_tensor), batch_size=args.batch_size, shuffle=False)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 64), nn.ReLU(),
        nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        print("epoch", epoch, "loss", round(loss.item(), 4))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=6)
    main(parser.parse_args())
