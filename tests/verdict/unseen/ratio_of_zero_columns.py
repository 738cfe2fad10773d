import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

np.seterr(all="ignore")
data = load_breast_cancer()
X, y = data.data, data.target
# new feature: concavity per concave point
ratio = X[:, 6] / X[:, 7]
X = np.column_stack([X, ratio])
X = (X - np.nanmean(X, axis=0)) / np.nanstd(X, axis=0)

torch.manual_seed(0)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(31, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters())
for epoch in range(5):
    for xb, yb in loader:
        loss = nn.functional.cross_entropy(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
