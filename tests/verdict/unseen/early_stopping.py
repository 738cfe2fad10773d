import copy

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
a, b, ya, yb = train_test_split(X, y, random_state=0, stratify=y)
sc = StandardScaler().fit(a)
a, b = torch.tensor(sc.transform(a)).float(), torch.tensor(sc.transform(b)).float()
ya, yb = torch.tensor(ya).float(), torch.tensor(yb).float()
model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1), nn.Flatten(0))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
loss_fn = nn.BCEWithLogitsLoss()
best, patience, state = float("inf"), 0, None
for epoch in range(100):
    model.train()
    for i in torch.randperm(len(a)).split(32):
        optimizer.zero_grad()
        loss_fn(model(a[i]), ya[i]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val = loss_fn(model(b), yb).item()
    if val < best:
        best, patience, state = val, 0, copy.deepcopy(model.state_dict())
    else:
        patience += 1
        if patience == 5:
            break
model.load_state_dict(state)
print("stopped after", epoch + 1, "epochs; best validation loss", round(best, 4))
