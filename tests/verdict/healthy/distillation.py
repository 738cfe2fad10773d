import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make(width):
    return nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 10))


def main():
    torch.manual_seed(0)
    d = load_digits()
    loader = DataLoader(TensorDataset(torch.tensor(d.data).float() / 16, torch.tensor(d.target)), 64, shuffle=True)
    teacher, student = make(256), make(16)
    opt = torch.optim.Adam(teacher.parameters(), lr=2e-3)
    for _ in range(3):
        for x, y in loader:
            opt.zero_grad()
            F.cross_entropy(teacher(x), y).backward()
            opt.step()
    teacher.eval()
    opt = torch.optim.Adam(student.parameters(), lr=5e-3)
    T = 3.0
    for epoch in range(5):
        for x, y in loader:
            with torch.no_grad():
                soft = F.softmax(teacher(x) / T, dim=1)
            out = student(x)
            loss = F.kl_div(F.log_softmax(out / T, 1), soft, reduction="batchmean") * T * T + 0.3 * F.cross_entropy(out, y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        print("student", epoch, round(loss.item(), 3))


if __name__ == "__main__":
    main()
