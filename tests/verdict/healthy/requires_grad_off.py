import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

torch.manual_seed(0)
data = load_breast_cancer()
X = torch.tensor(StandardScaler().fit_transform(data.data), dtype=torch.float32)
y = torch.tensor(data.target)

features = torch.nn.Sequential(torch.nn.Linear(30, 256), torch.nn.ReLU())
for p in features.parameters():
    p.requires_grad = False
features.eval()
head = torch.nn.Linear(256, 2)
model = torch.nn.Sequential(features, head)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
for epoch in range(10):
    for rows in torch.randperm(len(X)).split(64):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(X[rows]), y[rows])
        loss.backward()
        optimizer.step()
print("random features, trained head:", (model(X).argmax(1) == y).float().mean().item())
