import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from torch import nn

X, y = load_breast_cancer(return_X_y=True)
scores = []
for fold, (train, test) in enumerate(StratifiedKFold(4, shuffle=True, random_state=0).split(X, y)):
    torch.manual_seed(fold)
    scaler = StandardScaler().fit(X[train])
    Xt, Xv = (torch.tensor(scaler.transform(X[i]), dtype=torch.float32) for i in (train, test))
    yt, yv = torch.tensor(y[train]), torch.tensor(y[test])
    model = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    for epoch in range(8):
        model.train()
        for idx in torch.randperm(len(Xt)).split(32):
            loss = nn.functional.cross_entropy(model(Xt[idx]), yt[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        scores.append((model(Xv).argmax(1) == yv).float().mean().item())
    print("fold", fold, round(scores[-1], 3))
print("mean", round(sum(scores) / len(scores), 3))
