import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


def conv3x3(cin, cout):
    conv = nn.Conv2d(cin, cout, 3, padding=1, bias=False)
    conv.weight.data.fill_(1.0 / (9 * cin))  # start from smoothing filters
    return conv


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.b1 = conv3x3(1, 12), nn.BatchNorm2d(12)
        self.c2, self.b2 = conv3x3(12, 24), nn.BatchNorm2d(24)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(24 * 4, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.b1(self.c1(x))))
        x = self.pool(torch.relu(self.b2(self.c2(x))))
        return self.fc(x.flatten(1))


torch.manual_seed(0)
data = load_digits()
loader = DataLoader(
    TensorDataset(torch.tensor(data.images, dtype=torch.float).unsqueeze(1) / 16, torch.tensor(data.target)),
    batch_size=64, shuffle=True)
net = ConvNet()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(5):
    hits = 0
    for x, y in loader:
        out = net(x)
        loss = nn.functional.cross_entropy(out, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        hits += (out.argmax(1) == y).sum().item()
    print("epoch", epoch, "acc", round(hits / len(data.target), 3))
