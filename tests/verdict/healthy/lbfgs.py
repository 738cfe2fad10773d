import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

X, y = load_wine(return_X_y=True)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float64)
y = torch.tensor(y)
torch.manual_seed(0)
model = torch.nn.Linear(13, 3).double()
optimizer = torch.optim.LBFGS(model.parameters(), lr=1, max_iter=10, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(X), y) + 1e-2 * model.weight.square().sum()
    loss.backward()
    return loss


for i in range(12):
    loss = optimizer.step(closure)
    print(i, f"{loss.item():.6f}")
