import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_diabetes(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
xs, ys = StandardScaler().fit(X_train), StandardScaler().fit(y_train[:, None])
tensors = [torch.tensor(xs.transform(a), dtype=torch.float32) for a in (X_train, X_test)]
targets = [torch.tensor(ys.transform(a[:, None]), dtype=torch.float32) for a in (y_train, y_test)]
loader = DataLoader(TensorDataset(tensors[0], targets[0]), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
loss_fn = nn.HuberLoss()
for epoch in range(30):
    model.train()
    for xb, yb in loader:
        loss = loss_fn(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        model.eval()
        with torch.no_grad():
            print(epoch + 1, "test", round(loss_fn(model(tensors[1]), targets[1]).item(), 3))
