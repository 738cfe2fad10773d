import time

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset


class RemoteImages(Dataset):
    """Each image is one request to a file server that answers within 3 ms."""

    def __init__(self):
        digits = load_digits()
        self.images, self.labels = digits.images, digits.target

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        time.sleep(0.003)
        return torch.tensor(self.images[i], dtype=torch.float32).flatten() / 16, int(self.labels[i])


torch.manual_seed(0)
loader = DataLoader(RemoteImages(), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for x, y in loader:
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss after one epoch {loss.item():.3f}")
