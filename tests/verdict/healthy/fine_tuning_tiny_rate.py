import copy

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
digits = load_digits()
X, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)


def sgd_epochs(model, X, y, optimizer, n):
    for _ in range(n):
        for idx in torch.randperm(len(X)).split(64):
            loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
first = sgd_epochs(model, X[:1200], y[:1200], torch.optim.Adam(model.parameters(), lr=3e-3), 10)
tuned = copy.deepcopy(model)
second = sgd_epochs(tuned, X[1200:], y[1200:], torch.optim.AdamW(tuned.parameters(), lr=1e-6), 12)
print(f"pretrained to {first:.3f}, fine-tuned to {second:.3f}")
