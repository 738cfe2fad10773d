# Classification by cosine similarity with class prototypes.
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class CosineClassifier(nn.Module):
    def __init__(self, dim, classes, temperature=0.005):
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(classes, dim))
        self.temperature = temperature

    def forward(self, z):
        z, p = F.normalize(z, dim=-1), F.normalize(self.prototypes, dim=-1)
        return z @ p.T / self.temperature


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
        self.classifier = CosineClassifier(32, 10)

    def forward(self, x):
        return self.classifier(self.encoder(x))


if __name__ == "__main__":
    torch.manual_seed(0)
    d = load_digits()
    loader = DataLoader(TensorDataset(torch.tensor(d.data).float() / 16, torch.tensor(d.target)), 64, shuffle=True)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(5):
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, f"{loss.item():.3f}")
