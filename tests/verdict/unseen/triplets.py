import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Triplets(Dataset):
    def __init__(self):
        d = load_digits()
        self.x, self.y = torch.tensor(d.data).float() / 16, torch.tensor(d.target)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        same = torch.nonzero(self.y == self.y[i]).flatten()
        other = torch.nonzero(self.y != self.y[i]).flatten()
        pick = lambda rows: self.x[rows[torch.randint(len(rows), ())]]  # noqa: E731
        return self.x[i], pick(same), pick(other)


torch.manual_seed(0)
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
criterion = nn.TripletMarginLoss(margin=1.0)
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(4):
    for anchor, positive, negative in DataLoader(Triplets(), batch_size=64, shuffle=True):
        loss = criterion(net(anchor), net(positive), net(negative))
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, f"{loss.item():.4f}")
