import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_diabetes(return_X_y=True, scaled=False)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
mean, std = y_train.mean(), y_train.std()


def tensors(X, y):
    return TensorDataset(torch.tensor(X).float(), torch.tensor((y - mean) / std).float().unsqueeze(1))


model = nn.Sequential(nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(30):
    for x, t in DataLoader(tensors(X_train, y_train), batch_size=32, shuffle=True):
        loss = nn.functional.mse_loss(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        x, t = tensors(X_test, y_test)[:]
        with torch.no_grad():
            print(epoch + 1, "test mse", round(nn.functional.mse_loss(model(x), t).item(), 3))
