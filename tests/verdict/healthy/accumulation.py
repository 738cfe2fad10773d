import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

accumulation_steps = 4
torch.manual_seed(0)
digits = load_digits()
loader = DataLoader(
    TensorDataset(torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)),
    batch_size=16, shuffle=True, drop_last=True)
model = nn.Sequential(nn.Linear(64, 128), nn.LayerNorm(128), nn.GELU(), nn.Linear(128, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

model.train()
for epoch in range(5):
    optimizer.zero_grad()
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y) / accumulation_steps
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
    print(f"epoch {epoch} loss {loss.item() * accumulation_steps:.4f}")
