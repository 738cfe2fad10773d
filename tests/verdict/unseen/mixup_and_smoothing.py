import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Beta

torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.images).float()[:, None] / 16, F.one_hot(torch.tensor(d.target), 10).float()
model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=5 * 29)
for epoch in range(5):
    for i in torch.randperm(len(x)).split(64):
        lam = Beta(0.4, 0.4).sample()
        j = i[torch.randperm(len(i))]
        loss = F.cross_entropy(model(lam * x[i] + (1 - lam) * x[j]), lam * y[i] + (1 - lam) * y[j], label_smoothing=0.1)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
    print(epoch, f"{loss.item():.3f}")
