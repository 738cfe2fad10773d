import ctypes

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Decoded(Dataset):
    """Images that a C library decodes; one file is broken."""

    def __init__(self):
        digits = load_digits()
        self.images, self.labels = digits.images, digits.target

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        if i == 1200:
            ctypes.string_at(0)  # segmentation fault in the decoder
        return torch.tensor(self.images[i], dtype=torch.float32).flatten() / 16, int(self.labels[i])


def main():
    torch.manual_seed(0)
    loader = DataLoader(Decoded(), batch_size=64, num_workers=2)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    print("training")
    for epoch in range(3):
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print("done")


if __name__ == "__main__":
    main()
