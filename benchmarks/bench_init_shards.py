"""Question: how much memory does initialising a shard take, and how long, with 1 to 8 ranks?

A 256 MB weight, of which one rank of N holds a shard as a DTensor. Its process's resident memory
is read from the kernel (VmHWM, reset before), once the shard is there and touched; what `apply`
adds is told as a share of the shard. Each rank is a process of its own; no rank communicates.

    python benchmarks/bench_init_shards.py [--quick]

Caveat: some 2 MB are added whatever the size (code that is loaded, threads), so that small shards
look worse; schemes for whole matrices (orthogonal) take the whole's memory besides. Only the first
rank of each mesh is run, beside a fake process group.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from ratios import Ratio, write
from torch import nn
from turns import options

ROWS, COLUMNS, RANKS = 8192, 8192, (1, 2, 4, 8)
LAYOUTS = ("Shard(0)", "Shard(1)")


def peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmHWM here: this benchmark needs Linux")


def one(ranks: int, dim: int, rows: int) -> dict[str, Any]:
    """In a process of its own: what applying adds to the shard's memory, and the time."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard
    from torch.testing._internal.distributed.fake_pg import FakeStore

    import lampwork as lw

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    mesh = DeviceMesh("cpu", list(range(ranks)))
    layer = nn.Linear(8, 8, bias=False)
    lw.init.plan(layer, scheme="normal").apply()  # what is loaded once is no cost of a shard
    shape = [rows, COLUMNS]
    shape[dim] //= ranks
    local = torch.ones(shape)
    layer.weight = nn.Parameter(
        DTensor.from_local(local, mesh, [Shard(dim)], run_check=False), requires_grad=False
    ).requires_grad_()
    plan = lw.init.plan(layer, scheme="trunc_normal")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before, began = peak_bytes(), time.perf_counter()
    plan.apply(seed=0)
    took = time.perf_counter() - began
    shard = local.numel() * local.element_size()
    return {"share": 1.0 + (peak_bytes() - before) / shard, "seconds": took}


def main() -> None:
    if "--one" in sys.argv:
        print(json.dumps(one(*(int(number) for number in sys.argv[2:]))))
        return
    quick = options(__doc__).quick
    ratios, facts, goals = {}, {}, {}
    for ranks in RANKS[:2] if quick else RANKS:
        for dim, layout in enumerate(LAYOUTS):
            arguments = [str(ranks), str(dim), str(ROWS // (8 if quick else 1))]
            found = []
            for _ in range(2 if quick else 5):
                command = [sys.executable, __file__, "--one", *arguments]
                done = subprocess.run(command, capture_output=True, text=True, timeout=100)
                if done.returncode:
                    raise SystemExit(done.stderr)
                found.append(json.loads(done.stdout))
            label = f"{layout} of {ranks}: peak memory / the shard's"
            ratios[label] = Ratio.of([one["share"] for one in found])
            goals[label] = "≤ 1.05"
            best = min(one["seconds"] for one in found)
            facts[f"{layout} of {ranks}: milliseconds, at best"] = round(1e3 * best, 1)
            print(f"{label}: {ratios[label]}, {1e3 * best:.1f} ms", flush=True)
    if not quick:
        write("init_shards", __doc__, ratios, goals=goals, facts=facts)


if __name__ == "__main__":
    main()
