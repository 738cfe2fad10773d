"""Runs in each of two gloo ranks: DDP and FSDP2 are captured, extracted and watched.

    python -m tests.watching.two_ranks PORT FOLDER

Forks its ranks after torch is loaded, so that this is paid once. Exits 0 if all that was seen is
what one process computes for both ranks by `torch.autograd.grad`.
"""

import os
import sys
import warnings
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import lampwork
from lampwork._native.stats import summary_row
from lampwork.record.reader import Record
from tests.ranks import forked
from tests.watching.training import mlp, rows, seeded

RANKS, STEPS = 2, 3
LAYERS = ("0", "1", "2", "")


def data(rank, step):
    """What a rank trains on."""
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(10 * step + rank))


def by_hand(rank):
    """What this rank is to see in each step, computed in one process for both ranks."""
    model = seeded(mlp)
    for step in range(STEPS):
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        gradients, seen = [], {}
        for each in range(RANKS):
            outputs = [model[0](data(each, step))]
            outputs += [model[1](outputs[0])]
            outputs += [model[2](outputs[1])]
            loss = outputs[-1].square().mean()
            wanted = [*outputs, *model.parameters()]
            found = torch.autograd.grad(loss, wanted)
            gradients.append(dict(zip(weights, found[3:], strict=True)))
            if each == rank:
                seen = dict(zip(LAYERS, zip(outputs, found, strict=False), strict=False))
                seen[""] = seen["2"]
        mean = {name: (gradients[0][name] + gradients[1][name]) / RANKS for name in weights}
        with torch.no_grad():
            for name, p in model.named_parameters():
                p -= 0.1 * mean[name]
        updates = {n: p.detach() - weights[n] for n, p in model.named_parameters()}
        yield seen, gradients[rank], {"weight": weights, "grad": mean, "update": updates}


def insist(found, expected, what):
    """Both are close; ends with what is not."""
    if found is None or not np.allclose(found, expected, rtol=1e-4, atol=1e-6):
        raise SystemExit(f"{what}: {found}, not {expected}")


def row(tensor):
    """Count, sum, squares, zeros, of a tensor as the record has it."""
    return summary_row(tensor.detach().clone()).numpy()[:4]


def train(rank, folder, kind, model, called, part):
    """Train, each step under a capture, all of them under a watch; compare both."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = list(by_hand(rank))
    with lampwork.watch(model, every=1, dir=folder, name=kind) as run:
        for step, (seen, own, _) in enumerate(expected):
            optimizer.zero_grad()
            with lampwork.capture(model) as captured:
                called(data(rank, step)).square().mean().backward()
            optimizer.step()
            for name, (output, gradient) in seen.items():
                what = f"{kind}, step {step}, {name!r}"
                insist(captured[name].output, output.detach(), f"{what}, output")
                insist(captured[name].grad_output, gradient, f"{what}, gradient")
            for name in ("0", "2"):
                found = captured[name]
                insist(found.grad_weight, own[f"{name}.weight"], f"{kind}, weight of {name!r}")
                insist(found.grad_bias, own[f"{name}.bias"], f"{kind}, bias of {name!r}")
        features = lampwork.extract(model, ["0"], data(rank, 0))["0"]
        insist(features.shape, (5, 8), f"{kind}, features")
    dist.barrier()
    record = Record(run.path, rank=rank)
    for step, (seen, _, parameters) in enumerate(expected):
        for name, (output, gradient) in seen.items():
            for what, tensor in (("output", output), ("grad_output", gradient)):
                insist(rows(record, name, what)[step, :4], row(tensor), f"{kind}, {what} {name!r}")
        for what, tensors in parameters.items():
            for name, tensor in tensors.items():
                found = rows(record, name, what)[step, :4]
                insist(found, row(part(tensor)), f"{kind}, {what} of {name}, step {step}")
    # Read together, a row is the average of both ranks' rows.
    both = [rows(Record(run.path, rank=each), "0", "output")[:, :4] for each in range(RANKS)]
    insist(rows(Record(run.path), "0", "output")[:, :4], sum(both) / RANKS, f"{kind}, both ranks")
    if sorted(p.name for p in run.path.glob("*.sqlite")) != ["rank0.sqlite", "rank1.sqlite"]:
        raise SystemExit(f"{kind}: {sorted(run.path.iterdir())}")


def run(rank, port, folder):
    """Both ways to distribute a model."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    wait = timedelta(seconds=60)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", wait, RANKS, rank)
    model = seeded(mlp)
    train(rank, folder, "ddp", model, DistributedDataParallel(model), lambda whole: whole)
    mesh = DeviceMesh("cpu", list(range(RANKS)))
    model = seeded(mlp)
    for part in (model[0], model[2], model):
        fully_shard(part, mesh=mesh)
    train(rank, folder, "fsdp", model, model, lambda whole: whole.chunk(RANKS)[rank])
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    forked(RANKS, lambda rank: run(rank, int(sys.argv[1]), sys.argv[2]))
