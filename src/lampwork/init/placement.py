"""Which part of a whole tensor is here: a DTensor's own shard as boxes of the global tensor."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

from torch import Tensor, distributed

from lampwork._core.errors import InputError

Run = tuple[int, int]
"""The first of some indices, and how many there are."""


class Piece(NamedTuple):
    """A part of a tensor that is stored in this process.

    Attributes:
        local: the stored elements, a view.
        start: the index of the first of them in the whole tensor.
    """

    local: Tensor
    start: tuple[int, ...]

    def of(self, whole: Tensor) -> Tensor:
        """The same part of a tensor of the whole shape."""
        for dim, (start, size) in enumerate(zip(self.start, self.local.shape, strict=True)):
            whole = whole.narrow(dim, start, size)
        return whole


def is_distributed(tensor: Tensor) -> bool:
    """Whether it is a DTensor, of which this process may hold a shard only."""
    if not distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def pieces(tensor: Tensor) -> list[Piece]:
    """What this process stores of a tensor: all of a plain one, of a DTensor its shard.

    Nothing is communicated. The shard is one box, but for strided sharding of one dimension
    along two dimensions of the mesh.

    Raises:
        InputError: a DTensor whose values are sums that are still to be made.
    """
    if not is_distributed(tensor):
        return [Piece(tensor, (0,) * tensor.dim())]
    local = local_of(tensor)
    if not local.numel():
        return []
    stored = _stored(tensor)
    sizes = tuple(sum(size for _, size in runs) for runs in stored)
    if sizes != tuple(local.shape):
        raise InputError(
            f"a shard of {tuple(local.shape)} was expected to be {sizes} "
            f"({_placements(tensor)} of {tuple(tensor.shape)}): initialise before sharding"
        )
    found = [Piece(local, ())]
    for dim, runs in enumerate(stored):
        begins = accumulate((size for _, size in runs), initial=0)
        found = [
            Piece(piece.local.narrow(dim, begin, size), (*piece.start, first))
            for begin, (first, size) in zip(begins, runs, strict=False)
            for piece in found
        ]
    return found


def local_of(tensor: Tensor) -> Tensor:
    """The tensor that this process stores: of a DTensor the shard, of another itself."""
    return tensor._local_tensor if is_distributed(tensor) else tensor  # type: ignore[attr-defined]


def _stored(tensor: Any) -> list[list[Run]]:
    """For each dimension, which unbroken runs of its indices are here.

    In plain numbers: torch's kernels for so few would load two megabytes of its code.
    """
    from torch.distributed.tensor import Shard

    found: list[list[Run]] = [[(0, size)] for size in tensor.shape]
    coordinate = tensor.device_mesh.get_coordinate()
    order = range(len(tensor.placements))
    if any(type(placement).__name__ == "_StridedShard" for placement in tensor.placements):
        # FSDP over tensor parallelism: the later dimensions of the mesh have cut first.
        order = reversed(order)
    for mesh_dim in order:
        placement = tensor.placements[mesh_dim]
        if placement.is_partial():
            raise InputError(
                f"a DTensor of placements {_placements(tensor)} holds sums that are still to be "
                "made: redistribute it first"
            )
        dim = getattr(placement, "dim", None)
        if dim is None or not (isinstance(placement, Shard) or hasattr(placement, "split_factor")):
            continue
        found[dim] = _chunk(found[dim], tensor.device_mesh.size(mesh_dim), coordinate[mesh_dim])
    return found


def _chunk(runs: list[Run], parts: int, here: int) -> list[Run]:
    """Of these indices one behind the other, the part that torch's `chunk` gives to one."""
    whole = sum(size for _, size in runs)
    each = -(-whole // parts)
    begin, end, at = here * each, min(whole, (here + 1) * each), 0
    found: list[Run] = []
    for first, size in runs:
        low, high = max(begin, at), min(end, at + size)
        if low < high:
            start = first + low - at
            if found and sum(found[-1]) == start:
                found[-1] = (found[-1][0], found[-1][1] + high - low)
            else:
                found.append((start, high - low))
        at += size
    return found


def _placements(tensor: Any) -> str:
    return ", ".join(str(placement) for placement in tensor.placements)
