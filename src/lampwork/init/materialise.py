"""Memory for tensors that were built on meta: once for each, ties kept, values not yet written."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lampwork.init.placement import is_distributed
from lampwork.init.survey import Site


def materialise(
    model: nn.Module, sites: Sequence[Site], device: str | torch.device | None = None
) -> None:
    """Gives the sites that are on meta uninitialised memory; all other tensors stay as they are.

    Unlike `Module.to_empty` it empties nothing that holds values, keeps tensors shared that were
    shared, and keeps attributes that were set on parameters. A DTensor gets its shard only.

    Args:
        model: the model.
        sites: of the model, those that are about to be written.
        device: where; without it on the CPU, a DTensor on the devices of its mesh.
    """
    wanted = {id(tensor): tensor for site in sites for tensor in site.raw if tensor.is_meta}
    if not wanted:
        return
    made: dict[int, Tensor] = {}

    def real(tensor: Tensor) -> Tensor:
        if id(tensor) not in wanted:
            return tensor
        if id(tensor) not in made:
            made[id(tensor)] = torch.empty_like(tensor.detach(), device=_device(tensor, device))
        return made[id(tensor)]

    # Module._apply is what to_empty uses: FSDP and recurrent layers follow it with their own.
    attributes = {id(site): dict(vars(site.stored)) for site in sites}
    model._apply(real)
    for site in sites:
        vars(site.stored).update(attributes[id(site)])
        if not site.computed:
            _tie(model, site)


def _device(tensor: Tensor, device: str | torch.device | None) -> str | torch.device:
    if device is not None:
        return device
    if is_distributed(tensor):
        return tensor.device_mesh.device_type  # type: ignore[attr-defined]
    return "cpu"


def _tie(model: nn.Module, site: Site) -> None:
    """Puts the one tensor back under all its names: `_apply` has made a parameter for each."""
    for name in site.tied:
        path, _, attribute = name.rpartition(".")
        owner = model.get_submodule(path)
        if getattr(owner, attribute) is not site.stored:
            setattr(owner, attribute, site.stored)
