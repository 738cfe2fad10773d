"""Copies where there should be none: units of a layer, layers, and shards of a tensor.

Units that start as copies of one another compute the same and get the same gradient, so they stay
copies (Goodfellow et al. 2016, "Deep Learning", 8.4). Layers that do are cloned modules
(`nn.TransformerEncoder` copies its layer), shards are ranks that drew from the same stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from lampwork.init.check import Finding
from lampwork.init.fans import matrices
from lampwork.init.stored import Value

_BITS = {torch.bfloat16: 7, torch.float16: 9, torch.float32: 20, torch.float64: 40}
"""Bits by which two random values of the type differ, with a margin."""


def units(value: Value) -> Iterator[Finding]:
    """`init-symmetric`: output units of one weight that start equal.

    Not accused: units of zeros (a second matrix of LoRA, the end of a residual branch), depthwise
    convolutions, whose units have an input each, and units of so few bits that chance may make
    them equal.
    """
    if not value.is_weight or not value.site.stored.requires_grad or not value.is_whole:
        return
    worst, of, constant = 0, 0, False
    parts = matrices(value.values, value.row.parts)
    for part in parts:
        rows = _as_units(part, value)
        if rows is None:
            continue
        count = _copies(rows)
        if count > worst:
            worst, of = count, len(rows)
            constant = bool((rows == rows.flatten()[0]).all())
    if worst:
        yield Finding(
            "init-symmetric",
            "fail" if worst >= 0.1 * of else "warn",
            value.row.name,
            {"equal_units": worst + 1, "of": of, "constant": constant},
            "Units that start equal get equal gradients and stay copies of one unit: draw them at "
            f"random.\ntorch.nn.init.xavier_uniform_(model.get_parameter({value.row.name!r}))",
        )
    elif len(parts) > 1:
        alike = _same_matrices(parts, value)
        if alike:
            yield Finding(
                "init-symmetric",
                "fail",
                value.row.name,
                {"equal_matrices": alike, "of": len(parts)},
                "Matrices of this tensor (experts, gates or projections) start as copies: draw "
                "each of its own.\nlampwork.init.initialize(model, x)",
            )


def layers(values: Sequence[Value]) -> Iterator[Finding]:
    """`init-symmetric`: weights that are different tensors of equal random values.

    Frozen copies are left out, as of a momentum encoder.
    """
    seen: dict[tuple[tuple[int, ...], bytes], list[Value]] = {}
    for value in values:
        counts = value.is_weight or value.row.role == "embedding"
        if not counts or not value.site.stored.requires_grad or value.values.numel() < 8:
            continue
        if not _is_structured(value.values):
            seen.setdefault((value.row.shape, digest(value.values)), []).append(value)
    copied = [group for group in seen.values() if len(group) > 1]
    if copied:
        # Of cloned blocks all weights are copies: one finding for all of them.
        first = copied[0]
        also = [other.row.name for group in copied[1:] for other in group[1:]]
        yield Finding(
            "init-symmetric",
            "fail",
            first[1].row.name,
            {
                "copy_of": first[0].row.name,
                "copies": sum(len(group) - 1 for group in copied),
                **({"also": also} if also else {}),
            },
            "Layers start as copies of one another, as nn.TransformerEncoder and deepcopy leave "
            "them: draw each of its own.\nlampwork.init.initialize(model, x)",
        )


def shards(values: Sequence[Value]) -> Iterator[Finding]:
    """`init-symmetric`: ranks that hold equal shards; `init-off-plan`: replicas that differ.

    Every rank of the process group has to ask. Digests of the shards of DTensors are gathered.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    mine = [(value.row.name, *_shard(value)) for value in values]
    ours: list[list[tuple[str, str, bytes, bool]]] = [[] for _ in range(_world_size())]
    torch.distributed.all_gather_object(ours, mine)
    for entries in zip(*ours, strict=True):
        name = entries[0][0]
        by_place: dict[str, dict[bytes, int]] = {}
        for rank, (_, place, value, _) in enumerate(entries):
            by_place.setdefault(place, {}).setdefault(value, rank)
        if any(len(found) > 1 for place, found in by_place.items() if place):
            yield Finding(
                "init-off-plan",
                "fail",
                name,
                {"replicas_that_differ": max(len(found) for found in by_place.values())},
                "Ranks that replicate this shard hold different values, so they train different "
                "models: apply the plan on all of them.\nplan.apply(seed=0)",
            )
        random = [(entry[2], entry[1]) for entry in entries if entry[1] and not entry[3]]
        if len({value for value, _ in random}) < len({place for _, place in random}):
            yield Finding(
                "init-symmetric",
                "fail",
                name,
                {"shards": len({place for _, place in random})},
                "Ranks hold equal shards of this tensor, so its units are copies: they drew from "
                "the same random stream.\nplan.apply(seed=0)  # values by position in the whole",
            )


def digest(values: Tensor) -> bytes:
    """Of every bit."""
    flat = values.detach().to("cpu").contiguous().view(-1).view(torch.uint8)
    return blake2b(flat.numpy().tobytes(), digest_size=16).digest()


def _world_size() -> int:
    return torch.distributed.get_world_size()


def _shard(value: Value) -> tuple[str, bytes, bool]:
    """Where the shard lies in the whole, its digest, and whether equal ones are no wonder."""
    stored = value.site.stored
    mesh, placements = getattr(stored, "device_mesh", None), getattr(stored, "placements", None)
    if mesh is None or placements is None or value.values.numel() == 0:
        return "", b"", True
    coordinate = mesh.get_coordinate() or []
    place = [
        f"{dim}:{at}"
        for dim, (at, placement) in enumerate(zip(coordinate, placements, strict=False))
        if placement.is_shard()
    ]
    structured = value.values.numel() < 8 or _is_structured(value.values)
    return " ".join(place) or "whole", digest(value.values), structured


def _as_units(part: Tensor, value: Value) -> Tensor | None:
    """One row per output unit; None where equal ones are no wonder."""
    if part.dim() < 2 or part.numel() == 0 or not part.is_floating_point():
        return None
    fan_in, dims = value.row.fan_in, range(part.dim())
    fits = [dim for dim in dims if fan_in and part.numel() // part.shape[dim] == int(fan_in)]
    dim = 1 if value.row.role == "transposed" else fits[0] if fits else 0
    rows = part.movedim(dim, 0).reshape(part.shape[dim], -1)
    bits = _BITS.get(part.dtype, 7) * rows.shape[1]
    if len(rows) < 2 or bits < 2 * math.log2(len(rows)) + 20:
        return None
    rows = rows[(rows != 0).any(dim=1)]
    return rows if len(rows) > 1 else None


def _copies(rows: Tensor) -> int:
    """How many rows are equal to an earlier one; told by a random projection, then bit by bit."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64)
    projected = rows.double() @ direction.to(rows.device)
    ordered = projected.sort()
    near = ordered.values.diff().abs() <= 1e-9 * ordered.values.abs().max()
    places = torch.nonzero(near).flatten()
    ahead, behind = ordered.indices[places], ordered.indices[places + 1]
    return int((rows[ahead] == rows[behind]).all(dim=1).sum())


def _same_matrices(parts: Sequence[Tensor], value: Value) -> int:
    if value.row.role == "convolution" or _is_structured(value.values) or parts[0].numel() < 8:
        return 0
    found = [digest(part) for part in parts]
    return max(found.count(one) for one in set(found)) if len(set(found)) < len(found) else 0


def _is_structured(values: Tensor) -> bool:
    """Zeros and one other value, as constants, identities and selections are."""
    other = values[values != 0]
    return other.numel() == 0 or bool((other == other.flatten()[0]).all())
