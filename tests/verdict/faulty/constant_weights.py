import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler


class Network(torch.nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            torch.nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:]))
        for layer in self.layers:
            torch.nn.init.constant_(layer.weight, 0.1)
            torch.nn.init.constant_(layer.bias, 0.0)

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x)


wine = load_wine()
X = torch.tensor(StandardScaler().fit_transform(wine.data), dtype=torch.float32)
t = torch.tensor(wine.target)
torch.manual_seed(0)
model = Network([13, 20, 20, 3])
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(20):
    for rows in torch.randperm(178).split(16):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(X[rows]), t[rows])
        loss.backward()
        optimizer.step()
print(f"loss {loss:.3f}")
