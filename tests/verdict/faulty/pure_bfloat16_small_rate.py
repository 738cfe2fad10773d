import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

# half the memory: keep the whole model in bfloat16
dtype = torch.bfloat16


def get_batch(x, y, n=64):
    i = torch.randint(len(x), (n,))
    return x[i].to(dtype), y[i]


def main():
    torch.manual_seed(0)
    digits = load_digits()
    x, y = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    for step in range(250):
        xb, yb = get_batch(x, y)
        loss = F.cross_entropy(model(xb).float(), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, f"{loss.item():.3f}")


main()
