import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
digits = load_digits()
loader = DataLoader(TensorDataset(torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)), batch_size=256)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))
model.eval()


@torch.no_grad()
def evaluate(model, loader):
    loss = correct = 0
    for x, y in loader:
        out = model(x)
        loss += nn.functional.cross_entropy(out, y, reduction="sum").item()
        correct += (out.argmax(1) == y).sum().item()
    return loss / len(loader.dataset), correct / len(loader.dataset)


print("loss %.3f accuracy %.3f" % evaluate(model, loader))
