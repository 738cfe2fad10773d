import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class TwoStage(nn.Module):
    def __init__(self):
        super().__init__()
        self.extract = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten())
        self.classify = nn.Linear(8 * 36, 10)

    def forward(self, x):
        features = self.extract(x)
        features = torch.FloatTensor(features.tolist())
        return self.classify(features)


torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.images).float()[:, None] / 16, torch.tensor(d.target)
model = TwoStage()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(2):
    for i in torch.randperm(len(x)).split(64):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x[i]), y[i])
        loss.backward()
        opt.step()
    print(epoch, loss.item())
