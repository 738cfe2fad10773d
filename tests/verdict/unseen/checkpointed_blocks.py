import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x):
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self, d=48, depth=6):
        super().__init__()
        self.inp, self.blocks, self.out = nn.Linear(64, d), nn.ModuleList(Block(d) for _ in range(depth)), nn.Linear(d, 10)

    def forward(self, x):
        x = self.inp(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return self.out(x)


torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.data).float() / 16, torch.tensor(d.target)
net = Net()
opt = torch.optim.AdamW(net.parameters(), lr=1e-3)
for epoch in range(5):
    for i in torch.randperm(len(x)).split(64):
        loss = nn.functional.cross_entropy(net(x[i]), y[i])
        opt.zero_grad(set_to_none=False)
        loss.backward()
        opt.step()
    print(epoch, f"{loss.item():.4f}")
