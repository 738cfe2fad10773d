# Transfer learning: train on digits 0-4 first, then reuse the body for digits 5-9.
import torch
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class SmallNet(nn.Module):
    def __init__(self, num_classes):
        super(SmallNet, self).__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2))
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


def get_loader():
    images, target = load_digits(return_X_y=True)
    images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    target = torch.tensor(target)
    keep = target >= 5
    return DataLoader(TensorDataset(images[keep], target[keep] - 5), batch_size=32, shuffle=True)


def main():
    torch.manual_seed(0)
    model = SmallNet(num_classes=1000)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    model.fc = nn.Linear(64, 5)

    criterion = nn.CrossEntropyLoss()
    loader = get_loader()
    model.train()
    for epoch in range(4):
        correct = 0
        for images, labels in loader:
            optimizer.zero_grad()
            logits = model(images)
            criterion(logits, labels).backward()
            optimizer.step()
            correct += (logits.argmax(1) == labels).sum().item()
        print(f"epoch {epoch}: train acc {correct / len(loader.dataset):.3f}")


if __name__ == "__main__":
    main()
