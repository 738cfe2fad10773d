import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler


class Deep(torch.nn.Module):
    def __init__(self, depth=12, width=32):
        super().__init__()
        self.inp = torch.nn.Linear(13, width)
        self.mid = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(depth))
        self.out = torch.nn.Linear(width, 3)

    def forward(self, x):
        x = torch.sigmoid(self.inp(x))
        for layer in self.mid:
            x = torch.sigmoid(layer(x))
        return self.out(x)


torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
X, y = torch.tensor(StandardScaler().fit_transform(X)).float(), torch.tensor(y)
model = Deep()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(25):
    for i in torch.randperm(len(X)).split(16):
        loss = torch.nn.functional.cross_entropy(model(X[i]), y[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 8 == 0:
        print(epoch, round(loss.item(), 4))
