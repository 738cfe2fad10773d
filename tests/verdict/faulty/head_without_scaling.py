import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class MLP(nn.Module):
    """Karpathy style, written out by hand."""

    def __init__(self, n_hidden=200):
        super().__init__()
        self.hidden = nn.Linear(64, n_hidden)
        self.head = nn.Linear(n_hidden, 10)
        nn.init.kaiming_normal_(self.hidden.weight, nonlinearity="relu")
        self.head.weight.data = torch.randn(10, n_hidden) * 2
        self.head.bias.data = torch.randn(10)

    def forward(self, x):
        return self.head(F.relu(self.hidden(x)))


def main(max_steps=300, batch_size=64):
    torch.manual_seed(2147483647)
    digits = load_digits()
    X, Y = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
    net = MLP()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for i in range(max_steps):
        ix = torch.randint(0, X.shape[0], (batch_size,))
        loss = F.cross_entropy(net(X[ix]), Y[ix])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % 100 == 0:
            print(f"{i:7d}/{max_steps:7d}: {loss.item():.4f}")


main()
