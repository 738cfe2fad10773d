import numpy as np
import torch
from sklearn.datasets import load_diabetes

rng = np.random.default_rng(0)
torch.manual_seed(0)
X, y = load_diabetes(return_X_y=True)
X = X / X.std(axis=0)
y = (y - y.mean()) / y.std()

class Regressor(torch.nn.Module):
    def __init__(self, n_in):
        super().__init__()
        self.l1 = torch.nn.Linear(n_in, 24)
        self.l2 = torch.nn.Linear(24, 1)

    def forward(self, x):
        return self.l2(torch.tanh(self.l1(x)))


def mse(prediction, target):
    return ((prediction - target) ** 2).mean()


model = Regressor(X.shape[1])
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
for step in range(400):
    rows = rng.choice(len(X), 32, replace=False)
    xb = torch.tensor(X[rows], dtype=torch.float32)
    yb = torch.tensor(y[rows], dtype=torch.float32)
    loss = mse(model(xb), yb)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 99:
        print(step + 1, f"{loss.item():.3f}")
