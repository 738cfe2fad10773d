"""Images and labels come from two listings; one of them is sorted as text."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset


class FolderDataset(Dataset):
    def __init__(self):
        digits = load_digits()
        images = {f"{i}.png": digits.images[i] for i in range(len(digits.images))}
        labels = {f"{i}.txt": int(digits.target[i]) for i in range(len(digits.target))}
        self.images = [images[name] for name in sorted(images)]
        self.labels = [labels[name] for name in labels]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return torch.tensor(self.images[i], dtype=torch.float32).flatten() / 16, self.labels[i]


def main():
    torch.manual_seed(0)
    loader = DataLoader(FolderDataset(), batch_size=64, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(12):
        losses = []
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch:2d}  loss {sum(losses) / len(losses):.4f}")


if __name__ == "__main__":
    main()
