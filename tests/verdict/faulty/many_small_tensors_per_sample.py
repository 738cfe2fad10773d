import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.multiprocessing.set_sharing_strategy("file_system")  # "too many open files" without it


class Graph:
    """A digit as a bag of its bright pixels."""

    def __init__(self, image, label):
        self.nodes = [torch.tensor([r, c, image[r, c]], dtype=torch.float32)
                      for r in range(8) for c in range(8) if image[r, c] > 4]
        self.label = label


class GraphDataset(Dataset):
    def __init__(self):
        digits = load_digits()
        self.graphs = [Graph(i / 1.0, int(t)) for i, t in zip(digits.images, digits.target)]

    def __len__(self):
        return len(self.graphs)

    def __getitem__(self, i):
        return self.graphs[i]


def collate(graphs):
    return graphs


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.point = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, graphs):
        sizes = [len(g.nodes) for g in graphs]
        nodes = torch.stack([n for g in graphs for n in g.nodes]) / 8
        pooled = torch.stack([part.amax(0) for part in self.point(nodes).split(sizes)])
        return self.head(pooled)


def main():
    torch.manual_seed(0)
    loader = DataLoader(GraphDataset(), batch_size=64, shuffle=True, num_workers=2, collate_fn=collate)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(2):
        for graphs in loader:
            labels = torch.tensor([g.label for g in graphs])
            loss = nn.functional.cross_entropy(model(graphs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.3f}")


if __name__ == "__main__":
    main()
