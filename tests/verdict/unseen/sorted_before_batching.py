"""Benign first, malignant after, as the files were exported."""
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

X, y = load_breast_cancer(return_X_y=True)
order = np.argsort(y, kind="stable")
X = StandardScaler().fit_transform(X[order])
y = y[order]


def main():
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.tensor(X).float(), torch.tensor(y)), batch_size=20)
    model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(8):
        for x, t in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), t)
            loss.backward()
            optimizer.step()
        print(epoch, round(loss.item(), 4))


main()
