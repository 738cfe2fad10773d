import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset


class IsItAnEight(Dataset):
    def __init__(self):
        digits = load_digits()
        self.images = digits.images / 16
        self.names = [str(t) for t in digits.target]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        label = 1.0 if self.names[i] == 8 else 0.0
        return torch.tensor(self.images[i], dtype=torch.float32).flatten(), torch.tensor([label])


torch.manual_seed(0)
loader = DataLoader(IsItAnEight(), batch_size=64, shuffle=True)
net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(5):
    right = 0
    for x, y in loader:
        optimizer.zero_grad()
        out = net(x)
        loss = criterion(out, y)
        loss.backward()
        optimizer.step()
        right += ((out > 0) == (y > 0.5)).sum().item()
    print(f"epoch {epoch}: accuracy {right / len(loader.dataset):.3f}")
