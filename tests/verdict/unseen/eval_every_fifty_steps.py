import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
d = load_digits()
x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 16
y = torch.tensor(d.target)
x_train, y_train, x_val, y_val = x[:1500], y[:1500], x[1500:], y[1500:]

model = nn.Sequential(
    nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Dropout2d(0.1),
    nn.Conv2d(12, 24, 3), nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(24 * 16, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)


def validate(model):
    model.eval()
    with torch.no_grad():
        return (model(x_val).argmax(1) == y_val).float().mean().item()


for step in range(1, 201):
    i = torch.randint(len(x_train), (64,))
    loss = nn.functional.cross_entropy(model(x_train[i]), y_train[i])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(step, f"loss {loss.item():.3f} val {validate(model):.3f}")
