"""Scripts that never heard of lampwork, and a way to run them with and without it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TRAIN = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
x = torch.randn(256, 20)
y = x[:, :4].argmax(dim=1)
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
for epoch in range(4):
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(loss.item(), [p.double().sum().item() for p in model.parameters()])
"""


@dataclass
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str


def run(command: list[str], cwd: Path) -> Ended:
    """Run a command to its end, at most a minute."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def python(cwd: Path, *arguments: str) -> Ended:
    """As the user runs it today."""
    return run([sys.executable, *arguments], cwd)


def lampwork(cwd: Path, *arguments: str) -> Ended:
    """The `lampwork` command."""
    return run([sys.executable, "-m", "lampwork", *arguments], cwd)
