import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model, loader, lr=2e-3):
        self.model, self.loader = model, loader
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.criterion = nn.CrossEntropyLoss()

    def step(self, x, y):
        loss = self.criterion(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def fit(self, epochs):
        for epoch in range(epochs):
            mean = sum(self.step(x, y) for x, y in self.loader) / len(self.loader)
            if epoch % 5 == 0:
                print(f"[{epoch}] {mean:.4f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    X, y = load_wine(return_X_y=True)
    data = TensorDataset(torch.tensor(StandardScaler().fit_transform(X)).float(), torch.tensor(y))
    net = nn.Sequential(nn.Linear(13, 24), nn.Tanh(), nn.Linear(24, 3))
    Trainer(net, DataLoader(data, batch_size=16, shuffle=True)).fit(20)
