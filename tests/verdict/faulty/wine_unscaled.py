import torch
from sklearn.datasets import load_wine
from torch import nn


def make_model(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 50), nn.ReLU(), nn.Linear(50, 20), nn.ReLU(), nn.Linear(20, n_classes))


def main():
    torch.manual_seed(0)
    data, target = load_wine(return_X_y=True)
    features = torch.tensor(data, dtype=torch.float32)
    labels = torch.tensor(target)
    dataset = torch.utils.data.TensorDataset(features, labels)
    loader = torch.utils.data.DataLoader(dataset, batch_size=16, shuffle=True)
    model = make_model(13, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(25):
        good = 0
        for x, y in loader:
            out = model(x)
            loss = loss_fn(out, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            good += (out.argmax(1) == y).sum().item()
        if epoch % 6 == 0:
            print(f"epoch {epoch}: accuracy {good / len(labels):.2%}")


if __name__ == "__main__":
    main()
