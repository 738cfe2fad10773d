"""A character model with tied input and output embeddings, on the text of a dataset's description."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_wine

text = load_wine().DESCR
chars = sorted(set(text))
ids = torch.tensor([chars.index(c) for c in text])


class CharLM(nn.Module):
    def __init__(self, vocab, dim=48):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.rnn = nn.GRU(dim, dim, batch_first=True)
        self.head = nn.Linear(dim, vocab, bias=False)
        self.head.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=0.1)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0])


def batch(n=16, length=32):
    start = torch.randint(len(ids) - length - 1, (n,))
    window = torch.stack([ids[s:s + length + 1] for s in start])
    return window[:, :-1], window[:, 1:]


torch.manual_seed(0)
model = CharLM(len(chars))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(150):
    x, y = batch()
    loss = F.cross_entropy(model(x).transpose(1, 2), y)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 30 == 29:
        print(step + 1, f"{loss.item():.3f}")
