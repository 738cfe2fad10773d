import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(0)
digits = load_digits()
data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
train, valid = random_split(data, [1500, 297])
model = nn.Sequential(
    nn.Dropout(0.2),
    nn.Linear(64, 512), nn.ReLU(), nn.Dropout(0.8),
    nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.8),
    nn.Linear(512, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(8):
    model.train()
    for x, y in DataLoader(train, batch_size=64, shuffle=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        x, y = next(iter(DataLoader(valid, batch_size=297)))
        print(f"epoch {epoch}: {(model(x).argmax(1) == y).float().mean():.3f}")
