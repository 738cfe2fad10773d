"""What was measured, in the order of depth."""

from __future__ import annotations

from typing import Any

import numpy as np

from lampwork._core.errors import InputError
from lampwork.record.schema import KINDS, Tensor
from lampwork.view import words


def tensors(known: list[Tensor]) -> list[dict[str, Any]]:
    """Every tensor, kind by kind."""
    found = [tensor for kind in KINDS for tensor in by_depth(known, kind)]
    return [
        {
            "id": tensor.id,
            "name": words.plain(tensor.name),
            "label": words.plain(tensor.label),
            "kind": tensor.kind,
            "call": tensor.call,
            "part": tensor.part,
            "shape": list(tensor.shape),
            "dtype": tensor.dtype,
            "module": words.plain(tensor.facts.get("module", "")),
        }
        for tensor in found
    ]


def by_depth(known: list[Tensor], kind: str) -> list[Tensor]:
    """The tensors of a kind, parameters where their module ran and not as they are registered."""
    found = of_kind(known, kind)
    outputs = of_kind(known, "output")
    if kind in ("output", "grad_output"):
        order = {tensor.label: tensor.id for tensor in outputs}
        return sorted(found, key=lambda tensor: order.get(tensor.label, tensor.id))
    ran = {tensor.name: tensor.id for tensor in reversed(outputs) if tensor.name}
    depths, depth = [], -1
    for tensor in found:
        name = tensor.name.rpartition(".")[0].partition(".parametrizations")[0]
        while name and name not in ran:
            name = name.rpartition(".")[0]
        depth = ran.get(name, depth)
        depths.append(depth)
    return [found[i] for i in np.argsort(depths, kind="stable")]


def of_kind(known: list[Tensor], kind: str) -> list[Tensor]:
    """The tensors of one kind, in the order of first sight."""
    return [tensor for tensor in known if tensor.kind == kind]


def find(known: list[Tensor], number: int) -> Tensor:
    """The tensor of an id.

    Raises:
        InputError: there is none.
    """
    found = next((tensor for tensor in known if tensor.id == number), None)
    if found is None:
        raise InputError(f"tensor {number} is unknown: there are {len(known)}")
    return found


def weight_of(known: list[Tensor], tensor: Tensor) -> Tensor | None:
    """The weight that an update was made to."""
    key = (tensor.name, "weight", 1, 0)
    return next((one for one in known if one.key == key), None)
