import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

np.random.seed(0)
torch.manual_seed(0)
digits = load_digits()
X, y = digits.data / 16, digits.target

# shuffle before splitting
np.random.shuffle(X)
X_train, y_train = X[:1400], y[:1400]
X_test, y_test = X[1400:], y[1400:]

train_loader = DataLoader(
    TensorDataset(torch.tensor(X_train, dtype=torch.float32), torch.tensor(y_train)),
    batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
criterion = nn.CrossEntropyLoss()
for epoch in range(15):
    for xb, yb in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
    if epoch % 3 == 2:
        with torch.no_grad():
            pred = model(torch.tensor(X_test, dtype=torch.float32)).argmax(1).numpy()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, test accuracy {(pred == y_test).mean():.3f}")
