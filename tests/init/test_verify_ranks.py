"""The check on two ranks: equal shards, replicas that differ, and sound sharded models."""

import subprocess
import sys

import pytest
import torch

SCRIPT = """
import os, sys, warnings
import torch, torch.distributed as dist
import torch.multiprocessing as mp
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

import lampwork as lw

warnings.simplefilter("ignore")

def fresh(mesh):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    plan = lw.init.plan(model, torch.zeros(2, 8))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, plan

def codes(plan, x):
    return sorted({f"{f.code}@{f.where}" for f in plan.verify(x).findings})

def tell(case, rank, found):
    # In one write: the ranks share the pipe.
    os.write(1, f"{case} {rank} {found}\\n".encode())

def main(rank, file):
    dist.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    x = torch.randn(32, 8, generator=torch.Generator().manual_seed(rank))

    sound, plan = fresh(mesh)
    tell("sound", rank, codes(plan, x))

    equal, plan = fresh(mesh)
    torch.manual_seed(0)  # on every rank, as a script does
    with torch.no_grad():
        equal[0].weight.to_local().normal_(std=0.5)
    tell("equal", rank, codes(plan, x))

    whole = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).state_dict()
    if rank == 0:
        save_file(whole, file + ".safetensors")
    dist.barrier()
    sharded, plan = fresh(mesh)
    report = lw.init.pretrained(sharded, file + ".safetensors")
    with safe_open(file + ".safetensors", "pt") as stored:
        values = {name: stored.get_tensor(name) for name in stored.keys()}
    same = all(torch.equal(p.full_tensor(), values[n]) for n, p in sharded.named_parameters())
    tell("loaded", rank, (len(report.loaded), same))

    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    plan = lw.init.plan(model)
    torch.manual_seed(rank)
    for layer in (model[0], model[2]):
        for name, parameter in list(layer.named_parameters()):
            value = torch.randn(parameter.shape) / parameter.shape[-1] ** 0.5
            made = DTensor.from_local(value, mesh, [Replicate()], run_check=False)
            layer.register_parameter(name, nn.Parameter(made))
    x = DTensor.from_local(x, mesh, [Replicate()], run_check=False)
    tell("replicas", rank, codes(plan, x))
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(main, (sys.argv[1],), nprocs=2)
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_equal_shards_are_flagged_and_each_rank_loads_its_own(tmp_path):
    """Two gloo processes; replicas that differ are flagged, a model of one seed is sound."""
    script = tmp_path / "ranks.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    found = {(case, rank): codes for case, rank, codes in lines}
    for rank in "01":
        assert found["sound", rank] == "[]"
        assert found["loaded", rank] == "(4, True)"
        assert "init-symmetric@0.weight" in found["equal", rank]
        assert "2.weight" not in found["equal", rank]
        for name in ("0.weight", "0.bias", "2.weight", "2.bias"):
            assert f"init-off-plan@{name}" in found["replicas", rank]
