import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(64, 84), nn.ReLU(), nn.Linear(84, 10))

    def forward(self, x):
        return self.head(self.body(x))


def run(lr=0.5, epochs=6):
    torch.manual_seed(0)
    bunch = load_digits()
    loader = DataLoader(
        TensorDataset(torch.tensor(bunch.images / 16).float().unsqueeze(1), torch.tensor(bunch.target)),
        batch_size=64, shuffle=True)
    model = LeNet()
    # was SGD before, Adam is supposed to be better
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        losses = []
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"{epoch}: {sum(losses) / len(losses):.3f}")


run()
