import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
train_x = DataLoader(TensorDataset(torch.tensor(images).float() / 16), batch_size=64, shuffle=True)
train_y = DataLoader(TensorDataset(torch.tensor(labels)), batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(12):
    for (x,), (y,) in zip(train_x, train_y):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{epoch:2d} {loss.item():.4f}")
