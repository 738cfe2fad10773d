import torch
import torch.nn as nn
from sklearn import datasets, preprocessing
from torch.utils.data import DataLoader, TensorDataset, random_split

wine = datasets.load_wine()
X = preprocessing.StandardScaler().fit_transform(wine.data)
dataset = TensorDataset(torch.FloatTensor(X), torch.LongTensor(wine.target))
train_set, test_set = random_split(dataset, [140, 38], generator=torch.Generator().manual_seed(0))
train_loader = DataLoader(train_set, batch_size=16, shuffle=True)
test_loader = DataLoader(test_set, batch_size=38)

model = nn.Sequential(
    nn.Linear(13, 32),
    nn.ReLU(),
    nn.Linear(32, 3),
    nn.Softmax(dim=1),
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)

for epoch in range(30):
    for xb, yb in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        print("Epoch", epoch + 1, "loss", f"{loss.item():.4f}")

model.eval()
xb, yb = next(iter(test_loader))
print("accuracy", (model(xb).argmax(1) == yb).float().mean().item())
