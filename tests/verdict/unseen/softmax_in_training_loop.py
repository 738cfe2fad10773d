import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
digits = load_digits()
X = torch.tensor(digits.data, dtype=torch.float32) / 16
Y = torch.tensor(digits.target)
mlp = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.LeakyReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.RMSprop(mlp.parameters(), lr=1e-3)
for epoch in range(6):
    for i in torch.randperm(len(X)).split(50):
        probs = F.softmax(mlp(X[i]), dim=-1)
        loss = F.cross_entropy(probs, Y[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
