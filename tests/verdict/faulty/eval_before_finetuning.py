import io

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn


class TabularNet(nn.Module):
    def __init__(self, dim=30, width=64, p=0.5):
        super().__init__()
        self.block1 = nn.Sequential(nn.Linear(dim, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(p))
        self.block2 = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(p))
        self.out = nn.Linear(width, 2)

    def forward(self, x):
        return self.out(self.block2(self.block1(x)))


def load_pretrained():
    # stands for torch.load("checkpoint.pt")
    buffer = io.BytesIO()
    torch.save(TabularNet().state_dict(), buffer)
    buffer.seek(0)
    model = TabularNet()
    model.load_state_dict(torch.load(buffer))
    model.eval()
    return model


def main():
    torch.manual_seed(5)
    X, y = load_breast_cancer(return_X_y=True)
    X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
    y = torch.tensor(y)
    model = load_pretrained()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for epoch in range(12):
        for idx in torch.randperm(len(X)).split(32):
            loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    print("loss went from %.3f to %.3f" % (losses[0], sum(losses[-10:]) / 10))


if __name__ == "__main__":
    main()
