import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.manual_seed(42)
X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)
scaler = StandardScaler()
X_train = torch.tensor(scaler.fit_transform(X_train), dtype=torch.float32)
X_test = torch.tensor(scaler.transform(X_test), dtype=torch.float32)
y_train = torch.tensor(y_train, dtype=torch.float32).reshape(-1, 1)
y_test = torch.tensor(y_test, dtype=torch.float32).reshape(-1, 1)

model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))
loss_fn = nn.BCEWithLogitsLoss()
opt = torch.optim.SGD(model.parameters(), lr=0.05)

batch_size = 16
for epoch in range(10):
    opt.zero_grad()
    perm = torch.randperm(len(X_train))
    for start in range(0, len(X_train), batch_size):
        rows = perm[start:start + batch_size]
        loss = loss_fn(model(X_train[rows]), y_train[rows])
        loss.backward()
        opt.step()

with torch.no_grad():
    acc = ((model(X_test) > 0) == y_test.bool()).float().mean()
print(f"final loss {loss.item():.4f}, test accuracy {acc:.3f}")
