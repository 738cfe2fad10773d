"""A contextual bandit: guess the digit, be paid for a hit."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(0)
digits = load_digits()
X, y = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
policy = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
baseline = 0.1
for step in range(500):
    i = torch.randint(len(X), (128,))
    pi = Categorical(logits=policy(X[i]))
    action = pi.sample()
    reward = (action == y[i]).float()
    loss = -(pi.log_prob(action) * (reward - baseline)).mean() - 0.01 * pi.entropy().mean()
    baseline = 0.9 * baseline + 0.1 * reward.mean().item()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 99:
        print(step + 1, f"reward {baseline:.3f}")
