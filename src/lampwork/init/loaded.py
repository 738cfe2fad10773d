"""Which tensors of a model hold a checkpoint's values, so that a check sees them written over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lampwork.init.check import Finding
from lampwork.init.rehearsal import local
from lampwork.init.stored import Value

_SAMPLED = 256
_LOADED: WeakKeyDictionary[nn.Module, dict[str, tuple]] = WeakKeyDictionary()


def remember(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Notes what a checkpoint has just written, by name."""
    known = _LOADED.setdefault(model, {})
    known.update({name: _sample(tensor) for name, tensor in tensors.items()})


def overwritten(model: nn.Module, values: Sequence[Value]) -> Iterator[Finding]:
    """`init-off-plan`: tensors that a checkpoint filled and that hold other values now.

    Not accused where a rule names the tensor: then it was meant.
    """
    known = _LOADED.get(model, {})
    lost = [
        value.row.name
        for value in values
        if value.row.role != "buffer"
        and value.row.chosen_by != "rule"
        and any(name in known for name in value.site.names)
        and all(known[n] != _sample(value.site.stored) for n in value.site.names if n in known)
    ]
    if lost:
        yield Finding(
            "init-off-plan",
            "fail",
            lost[0],
            {"loaded_then_overwritten": len(lost), "of": len(known), "also": lost[1:]},
            "A checkpoint was loaded into it and something wrote over it: initialise first and "
            "load then, or initialise what is missing only.\n"
            "lampwork.init.pretrained(model, source).initialize_missing(x)",
        )


@torch.no_grad()
def _sample(tensor: Tensor) -> tuple:
    """Its size and up to 256 of its elements, evenly spread."""
    flat = local(tensor).reshape(-1)
    picked = torch.linspace(0, max(0, flat.numel() - 1), min(_SAMPLED, flat.numel())).long()
    return flat.numel(), *flat[picked.to(flat.device)].tolist()
