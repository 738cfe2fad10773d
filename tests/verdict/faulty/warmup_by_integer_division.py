import torch
from sklearn.datasets import load_breast_cancer
from torch import nn, optim

torch.manual_seed(0)
cancer = load_breast_cancer()
X = torch.tensor((cancer.data - cancer.data.mean(0)) / cancer.data.std(0), dtype=torch.float32)
y = torch.tensor(cancer.target)

WARMUP_STEPS = 1000


def warmup(step):
    return min(1, step // WARMUP_STEPS)


model = nn.Sequential(nn.Linear(30, 32), nn.GELU(), nn.Linear(32, 2))
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
scheduler = optim.lr_scheduler.LambdaLR(optimizer, warmup)
step = 0
for epoch in range(15):
    for idx in torch.randperm(len(X)).split(32):
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        step += 1
    if epoch % 5 == 4:
        print("step", step, "loss", round(loss.item(), 4))
