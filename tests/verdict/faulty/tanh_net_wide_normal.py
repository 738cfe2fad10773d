import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)


class TanhNet(nn.Module):
    def __init__(self, n_in=64, n_hidden=128, n_out=10):
        super().__init__()
        self.fc1 = nn.Linear(n_in, n_hidden)
        self.act1 = nn.Tanh()
        self.fc2 = nn.Linear(n_hidden, n_hidden)
        self.act2 = nn.Tanh()
        self.fc3 = nn.Linear(n_hidden, n_out)
        for name, p in self.named_parameters():
            if "fc3" not in name and p.dim() == 2:
                nn.init.normal_(p, 0, 2.0)

    def forward(self, x):
        x = self.act1(self.fc1(x))
        x = self.act2(self.fc2(x))
        return self.fc3(x)


digits = load_digits()
X = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
y = torch.tensor(digits.target)
model = TanhNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(10):
    perm = torch.randperm(len(X))
    for i in range(0, len(X), 64):
        rows = perm[i:i + 64]
        loss = nn.functional.cross_entropy(model(X[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch} loss {loss.item():.4f}")
