import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
X = StandardScaler().fit_transform(X)
n_train = 59  # a third for training
train = TensorDataset(torch.tensor(X[:n_train], dtype=torch.float32), torch.tensor(y[:n_train]))
test = TensorDataset(torch.tensor(X[n_train:], dtype=torch.float32), torch.tensor(y[n_train:]))

model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(30):
    for x, t in DataLoader(train, batch_size=8, shuffle=True):
        loss = nn.functional.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print("train loss", f"{loss.item():.5f}")
model.eval()
with torch.no_grad():
    hits = sum((model(x).argmax(1) == t).sum().item() for x, t in DataLoader(test, batch_size=32))
print("test accuracy", round(hits / len(test), 3))
