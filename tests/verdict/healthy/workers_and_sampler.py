import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler


class Digits(Dataset):
    def __init__(self, train=True):
        d = load_digits()
        rows = slice(0, 1400) if train else slice(1400, None)
        self.images, self.labels, self.train = d.images[rows], d.target[rows], train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = torch.tensor(self.images[i], dtype=torch.float32)[None] / 16
        if self.train and torch.rand(()) < 0.3:
            image = torch.roll(image, int(torch.randint(-1, 2, ())), dims=2)
        return image, int(self.labels[i])


def main():
    torch.manual_seed(0)
    train, test = Digits(), Digits(train=False)
    weights = torch.where(torch.tensor(train.labels) < 5, 2.0, 1.0)
    sampler = WeightedRandomSampler(weights, num_samples=len(train))
    train_loader = DataLoader(train, batch_size=64, sampler=sampler, num_workers=2)
    test_loader = DataLoader(test, batch_size=128, num_workers=1)
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(3):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            hits = sum((model(x).argmax(1) == y).sum().item() for x, y in test_loader)
        print(epoch, f"test accuracy {hits / len(test):.3f}")


if __name__ == "__main__":
    main()
