import torch
from sklearn.datasets import load_digits
from torch import nn


def mlp(depth, width):
    blocks = [nn.Linear(64, width), nn.Sigmoid()]
    for _ in range(depth - 1):
        blocks += [nn.Linear(width, width), nn.Sigmoid()]
    return nn.Sequential(*blocks, nn.Linear(width, 10))


torch.manual_seed(0)
d = load_digits()
train = torch.utils.data.TensorDataset(torch.tensor(d.data, dtype=torch.float32) / 16, torch.tensor(d.target))
loader = torch.utils.data.DataLoader(train, batch_size=64, shuffle=True)
model = mlp(depth=10, width=64)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(8):
    mean = 0
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        mean += loss.item() / len(loader)
    print(f"epoch {epoch + 1} loss {mean:.4f}")
