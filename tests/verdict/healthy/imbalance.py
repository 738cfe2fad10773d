"""One digit against the rest, at one to forty."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
is_three = torch.tensor(digits.target == 3)
keep = ~is_three | (torch.cumsum(is_three, 0) <= 40)
x, y = x[keep], is_three[keep].float().unsqueeze(1)


def main():
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([10.0]))
    for epoch in range(8):
        for xb, yb in loader:
            optimizer.zero_grad()
            criterion(model(xb), yb).backward()
            optimizer.step()
    with torch.no_grad():
        p = model(x) > 0
    print("recall", (p & (y > 0)).sum().item() / y.sum().item(), "positives", int(y.sum()), "of", len(y))


main()
