import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
real = torch.tensor(load_digits().data).float() / 8 - 1
generator = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh())
critic = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
opt_g = torch.optim.RMSprop(generator.parameters(), lr=5e-4)
opt_c = torch.optim.RMSprop(critic.parameters(), lr=5e-4)
for step in range(400):
    x = real[torch.randint(len(real), (64,))]
    fake = generator(torch.randn(64, 8))
    loss_c = critic(fake.detach()).mean() - critic(x).mean()
    opt_c.zero_grad()
    loss_c.backward()
    opt_c.step()
    for p in critic.parameters():
        p.data.clamp_(-0.05, 0.05)
    if step % 5 == 4:
        loss_g = -critic(fake).mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
    if step % 100 == 99:
        print(step + 1, f"critic {loss_c.item():.4f}")
