import torch
import torch.nn as nn
from sklearn.datasets import load_digits


def init_normal(m):
    if type(m) in (nn.Conv2d, nn.Linear):
        nn.init.normal_(m.weight)


model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
)
torch.manual_seed(0)
model.apply(init_normal)

d = load_digits()
X = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 16
Y = torch.tensor(d.target)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(120):
    i = torch.randint(0, 1797, (64,))
    loss = nn.functional.cross_entropy(model(X[i]), Y[i])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 29:
        print("step", step + 1, "loss", f"{loss.item():.4g}")
