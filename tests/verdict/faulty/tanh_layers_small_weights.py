import math

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler


class Layer(torch.nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        bound = 1 / n_in  # should have been 1 / sqrt(n_in)
        self.weight = torch.nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))
        self.bias = torch.nn.Parameter(torch.zeros(n_out))

    def forward(self, x):
        return torch.tanh(torch.nn.functional.linear(x, self.weight, self.bias))


torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
y = torch.tensor(y)
net = torch.nn.Sequential(Layer(30, 50), *[Layer(50, 50) for _ in range(8)], torch.nn.Linear(50, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for epoch in range(10):
    for rows in torch.randperm(len(X)).split(32):
        loss = torch.nn.functional.cross_entropy(net(X[rows]), y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 3 == 0:
        print(epoch, f"{loss.item():.4f}", f"(guessing two classes: {math.log(2):.4f})")
