"""More than one process: DDP, FSDP2, and the launcher under torchrun."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lampwork.record.reader import Record
from tests.cli.scripts import run
from tests.watching.training import mlp, seeded, sgd

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available())
    or sys.platform == "win32",
    reason="needs gloo and fork",
)


def test_two_ranks_see_what_one_process_computes_for_both(tmp_path):
    """Under DDP and FSDP2 captured tensors, and recorded rows, are those of autograd by hand."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.watching.two_ranks", str(port), str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


TRAIN = """
import sys, torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("gloo")
torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
model = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
rank = dist.get_rank()
for step in range(12):
    x = torch.randn(5 + rank, 4, generator=torch.Generator().manual_seed(10 * step + rank))
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
with open(f"rank{rank}.txt", "w") as file:
    print([p.double().sum().item() for p in model.parameters()], file=file)
dist.barrier()
dist.destroy_process_group()
"""


def trained_by_hand():
    """The sums of the parameters that `TRAIN` ends with, computed in one process."""
    model = seeded(mlp)
    optimizer = sgd(model)
    for step in range(12):
        optimizer.zero_grad()
        for rank in (0, 1):
            generator = torch.Generator().manual_seed(10 * step + rank)
            x = torch.randn(5 + rank, 4, generator=generator)
            (model(x).square().mean() / 2).backward()
        optimizer.step()
    return [p.double().sum().item() for p in model.parameters()]


def test_the_launcher_runs_under_torchrun(tmp_path):
    """Weights are those by hand; each rank records, one of them tells, a reader has both."""
    (tmp_path / "train.py").write_text(TRAIN)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ours = ["-m", "lampwork", "run", "--every", "4", "--name", "net", "train.py"]
    done = run([*start, *ours], tmp_path)
    assert (done.code, done.out) == (0, ""), done.err
    for rank in (0, 1):
        weights = json.loads((tmp_path / f"rank{rank}.txt").read_text())
        np.testing.assert_allclose(weights, trained_by_hand(), rtol=1e-5)
    assert done.err.count("lampwork: verdict: pass") == 1
    folder = tmp_path / "runs" / "net"
    assert sorted(file.name for file in folder.iterdir()) == [
        "rank0.sqlite",
        "rank1.sqlite",
        "report.json",
    ]
    counts = []
    for rank in (0, 1, None):
        record = Record(folder, rank=rank)
        assert record.steps.tolist() == [0, 4, 8]
        output = record.find("0", "output")
        assert output is not None
        counts.append(record.summary(output).count)
    np.testing.assert_array_equal(counts, [[40] * 3, [48] * 3, [44] * 3])


def test_a_script_that_fails_under_torchrun_fails_as_without_us(tmp_path):
    """Torchrun sees the exit code of each rank's script."""
    (tmp_path / "fail.py").write_text("import os, sys\nsys.exit(3 * int(os.environ['RANK']))\n")
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run([sys.executable, *start, "-m", "lampwork", "run", "fail.py"], tmp_path)
    assert done.code == 1
    assert "exitcode  : 3" in done.err
