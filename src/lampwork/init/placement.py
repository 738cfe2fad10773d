"""Which part of a whole tensor is here: a DTensor's own shard as boxes of the global tensor."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from lampwork._core.errors import InputError


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
    indices = _indices(tensor)
    if [len(index) for index in indices] != list(local.shape):
        sizes = tuple(len(index) for index in indices)
        raise InputError(
            f"a shard of {tuple(local.shape)} was expected to be {sizes} "
            f"({_placements(tensor)} of {tuple(tensor.shape)}): initialise before sharding"
        )
    found = [Piece(local, ())]
    for dim, index in enumerate(indices):
        found = [
            Piece(piece.local.narrow(dim, begin, size), (*piece.start, first))
            for piece in found
            for begin, first, size in _runs(index)
        ]
    return found


def local_of(tensor: Tensor) -> Tensor:
    """The tensor that this process stores: of a DTensor the shard, of another itself."""
    return tensor._local_tensor if is_distributed(tensor) else tensor  # type: ignore[attr-defined]


def _indices(tensor: Any) -> list[Tensor]:
    """For each dimension, which indices of it are here."""
    from torch.distributed.tensor import Shard

    found = [torch.arange(size, device="cpu") for size in tensor.shape]
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
        parts = found[dim].chunk(tensor.device_mesh.size(mesh_dim))
        here = coordinate[mesh_dim]
        found[dim] = parts[here] if here < len(parts) else found[dim][:0]
    return found


def _runs(index: Tensor) -> list[tuple[int, int, int]]:
    """(where it begins, the first index, how many) of each unbroken run of indices."""
    breaks = (index.diff() != 1).nonzero().flatten() + 1
    edges = [0, *breaks.tolist(), len(index)]
    return [(b, int(index[b]), e - b) for b, e in pairwise(edges)]


def _placements(tensor: Any) -> str:
    return ", ".join(str(placement) for placement in tensor.placements)
