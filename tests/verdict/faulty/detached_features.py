import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 16, 32)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        return self.fc(x.flatten(1))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        features = self.encoder(x).detach()  # so that they can be plotted
        self.last_features = features
        return self.head(features)


torch.manual_seed(0)
bunch = load_digits()
images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
target = torch.tensor(bunch.target)
model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(5):
    right = 0
    for idx in torch.randperm(len(images)).split(64):
        optimizer.zero_grad()
        out = model(images[idx])
        F.cross_entropy(out, target[idx]).backward()
        optimizer.step()
        right += (out.argmax(1) == target[idx]).sum().item()
    print(f"epoch {epoch}: accuracy {right / len(images):.3f}, features {tuple(model.last_features.shape)}")
