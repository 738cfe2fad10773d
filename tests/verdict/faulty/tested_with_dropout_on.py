import argparse

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


def get_args():
    p = argparse.ArgumentParser(description="wine cultivar classifier")
    p.add_argument("--epochs", type=int, default=60)
    p.add_argument("--dropout", type=float, default=0.5)
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


class WineNet(torch.nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(13, 64), torch.nn.ReLU(), torch.nn.Dropout(dropout),
            torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Dropout(dropout),
            torch.nn.Linear(64, 3))

    def forward(self, x):
        return self.net(x)


def accuracy(model, X, y):
    with torch.no_grad():
        return (model(X).argmax(1) == y).float().mean().item()


def main():
    args = get_args()
    torch.manual_seed(args.seed)
    X, y = load_wine(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=args.seed, stratify=y)
    sc = StandardScaler().fit(X_train)
    X_train, X_test = (torch.tensor(sc.transform(a), dtype=torch.float32) for a in (X_train, X_test))
    y_train, y_test = torch.tensor(y_train), torch.tensor(y_test)

    model = WineNet(args.dropout)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(args.epochs):
        for rows in torch.randperm(len(X_train)).split(16):
            opt.zero_grad()
            torch.nn.functional.cross_entropy(model(X_train[rows]), y_train[rows]).backward()
            opt.step()
    print("train accuracy", round(accuracy(model, X_train, y_train), 3))
    print("test accuracy", round(accuracy(model, X_test, y_test), 3))


if __name__ == "__main__":
    main()
