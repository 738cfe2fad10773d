import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(13, 26)
        self.fc2 = nn.Linear(26, 3)

    def forward(self, x):
        h = self.fc1(x).detach().numpy()
        h = np.where(h > 0, h, 0.1 * h)  # leaky relu
        return self.fc2(torch.from_numpy(h))


if __name__ == "__main__":
    torch.manual_seed(0)
    data = load_wine()
    X = torch.from_numpy(StandardScaler().fit_transform(data.data)).float()
    y = torch.from_numpy(data.target)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(12):
        for rows in torch.randperm(178).split(16):
            loss = nn.functional.cross_entropy(model(X[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"{epoch} {loss.item():.4f}")
