import torch
from sklearn.datasets import load_digits
from torch import nn


def he_init(m):
    if isinstance(m, nn.Linear):
        fan_in = m.weight.shape[1]
        nn.init.normal_(m.weight, 0.0, 2.0 / fan_in)  # He et al.
        nn.init.zeros_(m.bias)


torch.manual_seed(0)
widths = [64] + [96] * 9
layers = [module for a, b in zip(widths, widths[1:]) for module in (nn.Linear(a, b), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(96, 10)).apply(he_init)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for step in range(200):
    i = torch.randint(len(X), (64,))
    loss = nn.functional.cross_entropy(model(X[i]), y[i])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(step, loss.item())
