"""MLP with a configurable number of hidden layers."""
import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn


class MLP(nn.Module):
    def __init__(self, in_dim, hidden_dim, out_dim, depth):
        super().__init__()
        self.first = nn.Linear(in_dim, hidden_dim)
        self.hidden = [nn.Linear(hidden_dim, hidden_dim) for _ in range(depth)]
        self.last = nn.Linear(hidden_dim, out_dim)

    def forward(self, x):
        x = torch.relu(self.first(x))
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.last(x)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=48)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    torch.manual_seed(1)

    data = load_digits()
    x = torch.from_numpy(data.data).float() / 16
    y = torch.from_numpy(data.target)
    model = MLP(64, args.hidden, 10, args.depth)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        order = torch.randperm(len(x))
        for idx in order.split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[idx]), y[idx])
            loss.backward()
            optimizer.step()
        print("epoch", epoch, "loss", round(loss.item(), 3))


if __name__ == "__main__":
    main()
