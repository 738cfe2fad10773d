import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)


def init_weights(m):
    if isinstance(m, nn.Linear):
        nn.init.zeros_(m.weight)
        nn.init.zeros_(m.bias)


X, y = load_digits(return_X_y=True)
X, y = torch.FloatTensor(X) / 16, torch.LongTensor(y)
net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
net.apply(init_weights)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

for epoch in range(10):
    for b in range(0, len(X), 64):
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(net(X[b:b + 64]), y[b:b + 64])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
