"""Windows over a long signal, in order of time, with the state carried over: no shuffling on purpose."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
signal = torch.tensor(load_digits().data[:, 20:44].mean(1), dtype=torch.float32)
signal = (signal - signal.mean()) / signal.std()
window = 32


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, x, state):
        h, state = self.gru(x, state)
        return self.out(h), state


model = Forecaster()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(4):
    state, total, n = None, 0.0, 0
    for start in range(0, len(signal) - window - 1, window):
        x = signal[start:start + window].view(1, -1, 1)
        y = signal[start + 1:start + window + 1].view(1, -1, 1)
        out, state = model(x, state)
        state = state.detach()
        loss = nn.functional.mse_loss(out, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total, n = total + loss.item(), n + 1
    print(epoch, f"{total / n:.4f}")
