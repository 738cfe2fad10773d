import torch
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32) / 16
y = torch.tensor(y)


class Attention(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.q = torch.nn.Linear(dim, dim)
        self.k = torch.nn.Linear(dim, dim)
        self.v = torch.nn.Linear(dim, dim)
        self.softmax = MySoftmax()

    def forward(self, x):
        scores = self.q(x) @ self.k(x).transpose(1, 2)
        return self.softmax(scores) @ self.v(x)


class MySoftmax(torch.nn.Module):
    def forward(self, s):
        e = torch.exp(s)
        return e / e.sum(-1, keepdim=True)


class Model(torch.nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.embed = torch.nn.Linear(8, dim)
        self.attn = Attention(dim)
        self.head = torch.nn.Linear(dim, 10)

    def forward(self, x):
        h = self.embed(x) * 12
        return self.head(h + self.attn(h)).mean(1)


model = Model()
opt = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(150):
    i = torch.randint(0, len(X), (32,))
    loss = torch.nn.functional.cross_entropy(model(X[i].view(-1, 8, 8)), y[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 30 == 0:
        print(step, loss.item())
