"""Bag of rounded measurements: each feature's bin is a word of its own."""
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import KBinsDiscretizer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BINS = 200


def words():
    X, y = load_breast_cancer(return_X_y=True)
    binned = KBinsDiscretizer(BINS, encode="ordinal", strategy="uniform").fit_transform(X)
    return torch.tensor(binned + BINS * np.arange(30), dtype=torch.long), torch.tensor(y)


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(30 * BINS, 16, mode="mean", sparse=True)
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        return self.out(self.table(x))


torch.manual_seed(0)
X, y = words()
model = Bag()
sparse = torch.optim.SparseAdam(model.table.parameters(), lr=1e-2)
dense = torch.optim.Adam(model.out.parameters(), lr=1e-2)
for epoch in range(8):
    for xb, yb in DataLoader(TensorDataset(X, y), batch_size=32, shuffle=True):
        loss = nn.functional.cross_entropy(model(xb), yb)
        sparse.zero_grad()
        dense.zero_grad()
        loss.backward()
        sparse.step()
        dense.step()
    print(epoch, round(loss.item(), 4))
