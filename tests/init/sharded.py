"""Runs in each of four gloo ranks: shards are initialised, assembled and compared with the whole.

    python -m tests.init.sharded PORT

Forks its ranks after torch is loaded, so that this is paid once. Exits 0 if all ranks agree.
"""

import functools
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import lampwork as lw
from tests.ranks import forked

RANKS = 4
RULES = [
    ("up.weight", "trunc_normal"),
    ("up.bias", "uniform"),
    ("lstm.weight_ih*", "xavier_uniform"),
    ("conv.weight", "orthogonal"),
    ("tiny.weight", "sparse"),
    ("extra.weight", "identity"),
    ("pairs.weight", "looks_linear"),
]


class Parts(nn.ModuleDict):
    """fully_shard wants a module with a forward."""

    def forward(self, x):
        return x


def model(device="cpu"):
    """Sizes that four ranks do not divide, stacked matrices, a padding row, a tied head."""
    with torch.device(device):
        found = Parts(
            {
                "embed": nn.Embedding(11, 6, padding_idx=9),
                "up": nn.Linear(6, 13),
                "lstm": nn.LSTM(13, 5),
                "conv": nn.Conv2d(4, 6, 3, groups=2),
                "norm": nn.LayerNorm(6),
                "tiny": nn.Linear(3, 2),
                "extra": nn.Linear(5, 7),
                "pairs": nn.Linear(9, 7),
                "head": nn.Linear(6, 11, bias=False),
            }
        )
        found["head"].weight = found["embed"].weight
    return found


@functools.cache
def expected():
    """The parameters of the same model in one piece."""
    whole = model()
    lw.init.plan(whole, scheme="kaiming_normal", rules=RULES).apply(seed=7)
    return dict(whole.named_parameters())


def compare(sharded, what):
    """Ends with the name of the first parameter that differs."""
    for name, value in sharded.named_parameters():
        full = value.full_tensor() if isinstance(value, DTensor) else value
        if not torch.equal(full, expected()[name]):
            raise SystemExit(f"{what}: {name} differs from the whole tensor's values")


def plain(mesh, placements, what):
    """Every parameter a DTensor of the placements, values by plan."""
    sharded = model()
    plan = lw.init.plan(sharded, scheme="kaiming_normal", rules=RULES)
    for module in sharded.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            fitting = [
                p if not isinstance(p, Shard) or p.dim < value.dim() else Replicate()
                for p in placements
            ]
            made = distribute_tensor(value.detach(), mesh, fitting)
            module.register_parameter(name, nn.Parameter(made))
    sharded["head"].weight = sharded["embed"].weight
    plan.apply(seed=7)
    compare(sharded, what)


def fsdp(mesh, what, *, on_meta):
    """fully_shard before values, with and without memory, as large models are built."""
    sharded = model("meta" if on_meta else "cpu")
    plan = lw.init.plan(sharded, scheme="kaiming_normal", rules=RULES)
    for name in ("up", "lstm", "conv"):
        fully_shard(sharded[name], mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    plan.apply(seed=7)
    compare(sharded, what)
    if sharded["head"].weight is not sharded["embed"].weight:
        raise SystemExit(f"{what}: the tied head is no longer tied")


def schemes_alone(mesh):
    """The functions of `schemes` write a DTensor's shard too, from equal generators."""
    for name in (
        "normal_",
        "uniform_",
        "orthogonal_",
        "looks_linear_",
        "sparse_",
        "dirac_",
        "ones_",
    ):
        shape = (7, 5, 3) if name == "dirac_" else (7, 5)
        whole, local = torch.zeros(shape), distribute_tensor(torch.zeros(shape), mesh, [Shard(0)])
        for tensor in (whole, local):
            torch.manual_seed(3)
            getattr(lw.init.schemes, name)(tensor)
        if not torch.equal(local.full_tensor(), whole):
            raise SystemExit(f"schemes.{name} of a shard differs from the whole tensor's values")


def run(rank, port):
    """All cases, each on as many ranks as it wants."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    wait = timedelta(seconds=60)
    dist.init_process_group("gloo", address, wait, RANKS, rank)
    for count in range(1, RANKS + 1):
        mesh = DeviceMesh("cpu", list(range(count)))
        if rank < count:
            for placement in (Shard(0), Shard(1), Replicate()):
                plain(mesh, [placement], f"{count} ranks, {placement}")
            fsdp(mesh, f"{count} ranks, FSDP2", on_meta=False)
            fsdp(mesh, f"{count} ranks, FSDP2 on meta", on_meta=True)
            schemes_alone(mesh)
        dist.barrier()
    square = DeviceMesh("cpu", [[0, 1], [2, 3]], mesh_dim_names=("data", "model"))
    for pair in ([Shard(0), Shard(1)], [Shard(0), Shard(0)], [Replicate(), Shard(0)]):
        plain(square, pair, f"two by two, {pair}")
    fsdp(square, "two by two, HSDP", on_meta=True)
    both(square)
    dist.barrier()
    dist.destroy_process_group()


def both(square):
    """FSDP over tensor parallelism: one dimension cut twice, by the later mesh dimension first."""
    layer = nn.Linear(6, 14)
    weight = distribute_tensor(layer.weight.detach(), square["model"], [Shard(0)])
    layer.weight = nn.Parameter(weight)
    layer.bias = nn.Parameter(distribute_tensor(layer.bias.detach(), square["model"], [Shard(0)]))
    fully_shard(layer, mesh=square["data"])
    lw.init.plan(layer, scheme="kaiming_normal").apply(seed=7)
    whole = nn.Linear(6, 14)
    lw.init.plan(whole, scheme="kaiming_normal").apply(seed=7)
    if not torch.equal(layer.weight.full_tensor(), whole.weight):
        raise SystemExit("FSDP over tensor parallelism differs from the whole tensor's values")


if __name__ == "__main__":
    forked(RANKS, lambda rank: run(rank, int(sys.argv[1])))
