import torch
from sklearn.datasets import load_digits
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(64, 48)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(48, 48), nn.ReLU()) for _ in range(2)])
        self.head = nn.Linear(48, 10)

    def forward(self, x):
        x = torch.relu(self.embed(x))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def main():
    torch.manual_seed(0)
    digits = load_digits()
    X, y = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
    model = Net()
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if all(p is not m for m in matrices)]
    optimizers = [torch.optim.SGD(matrices, lr=0.05, momentum=0.95, nesterov=True), torch.optim.AdamW(rest, lr=2e-3)]
    for epoch in range(6):
        for idx in torch.randperm(len(X)).split(64):
            loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
            for opt in optimizers:
                opt.zero_grad()
            loss.backward()
            for opt in optimizers:
                opt.step()
        print(epoch, round(loss.item(), 4))


if __name__ == "__main__":
    main()
