# Contrastive loss of Hadsell et al. on pairs of digits.
import random

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

random.seed(0)
torch.manual_seed(0)


class Pairs(Dataset):
    def __init__(self):
        digits = load_digits()
        self.x = torch.tensor(digits.data, dtype=torch.float32) / 16
        self.y = digits.target
        self.by_class = {c: [i for i, t in enumerate(self.y) if t == c] for c in range(10)}

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        if random.random() < 0.5:
            j = random.choice(self.by_class[self.y[i]])
        else:
            j = random.randrange(len(self.x))
        return self.x[i], self.x[j], float(self.y[i] == self.y[j])


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, a, b):
        a, b = self.tower(a), self.tower(b)
        return torch.sqrt(((a - b) ** 2).sum(dim=1))


def contrastive(distance, same, margin=1.0):
    return (same * distance**2 + (1 - same) * torch.clamp(margin - distance, min=0) ** 2).mean()


net = Siamese()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(4):
    for a, b, same in DataLoader(Pairs(), batch_size=64, shuffle=True):
        loss = contrastive(net(a, b), same.float())
        opt.zero_grad()
        loss.backward()
        opt.step()
    print("epoch", epoch, "loss", loss.item())
