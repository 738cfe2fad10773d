"""Carrying a plan out: each tensor is filled from a stream of its own, where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lampwork._core.errors import InputError
from lampwork.init.computed import write_through
from lampwork.init.draws import Draws
from lampwork.init.fans import matrices
from lampwork.init.materialise import materialise
from lampwork.init.placement import is_distributed, pieces
from lampwork.init.registry import KEEP, PLANNED, UNFILLED, Scheme, fill, is_of_matrix, parse
from lampwork.init.survey import Site, survey
from lampwork.init.variance import clear_row

if TYPE_CHECKING:
    from lampwork.init.plan import Row

# These need no real numbers.
_FOR_EVERY_TYPE = ("keep", "unfilled", "zeros", "ones", "constant")
# What wrappers put between the names of the modules that they wrap.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)

Fans = tuple[float | None, float | None]


def write_rows(
    rows: Sequence[Row], model: nn.Module, seed: int, device: str | torch.device | None = None
) -> None:
    """Writes what the rows say into the model; see `Plan.apply`."""
    jobs = [(row, parse(row.scheme, known=PLANNED), site) for row, site in place(rows, model)]
    jobs = [(row, scheme, site) for row, scheme, site in jobs if scheme != KEEP]
    # All of them are looked at before the first is written.
    _require_filled([site for _, scheme, site in jobs if scheme == UNFILLED])
    for _, scheme, site in jobs:
        require_type(site, scheme)
    materialise(model, [site for _, _, site in jobs], device)
    for row, scheme, site in jobs:
        draws = Draws.named(seed, canonical(row.name, model))
        write(site, scheme, draws, (row.fan_in, row.fan_out), row.parts)


def canonical(name: str, model: nn.Module) -> str:
    """The name without what compiling, checkpointing and parallel wrappers put into it."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    return ".".join(parts[1:] if isinstance(model, _PARALLEL) else parts)


def place(rows: Sequence[Row], model: nn.Module) -> list[tuple[Row, Site]]:
    """Where each row's values belong in the model as it is now.

    Tensors may have been tied since: of several rows for one tensor the first counts. Or untied:
    then every name of the row gets the same values.

    Raises:
        InputError: a row without its tensor, another shape, or a parameter without a row.
    """
    sites = survey(model)
    by_name = {name: site for site in sites for name in site.names}
    problems: list[str] = []
    placed: dict[int, tuple[Row, Site]] = {}
    for row in rows:
        if row.name not in by_name:
            problems.append(f"{row.name!r} is not in the model")
        for site in (by_name[name] for name in (row.name, *row.tied) if name in by_name):
            if tuple(site.shape) != row.shape:
                problems.append(f"{site.name!r} is {tuple(site.shape)}, planned {row.shape}")
            placed.setdefault(id(site), (row, site))
    problems += [
        f"{site.name!r} is not in the plan"
        for site in sites
        if id(site) not in placed and site.kind.role != "buffer"
    ]
    if problems:
        raise InputError(f"the plan is not for this model: {'; '.join(problems)}: plan again")
    return list(placed.values())


@torch.no_grad()
def write(
    site: Site, scheme: Scheme, draws: Draws | None, fans: Fans, parts: Sequence[int]
) -> None:
    """Fills one tensor where it lies; a computed one through what it is computed from."""
    if site.computed:
        values = torch.empty(site.shape, dtype=torch.float32, device="cpu")
        _fill(values, site, scheme, draws, fans, parts)
        cure = (
            "initialise it before register_parametrization, or give the rule "
            f"({site.name!r}, 'keep')"
        )
        write_through(site.computed, values, site.name, cure)
    else:
        _fill(site.stored, site, scheme, draws, fans, parts)


def _fill(
    tensor: Tensor,
    site: Site,
    scheme: Scheme,
    draws: Draws | None,
    fans: Fans,
    parts: Sequence[int],
) -> None:
    fan_in, fan_out = fans
    if not is_of_matrix(scheme) or not parts:
        fill(scheme, tensor, draws, fan_in=fan_in, fan_out=fan_out)
    else:
        # Parts do not end where shards do, so stacked matrices are made whole as well.
        sharded = is_distributed(tensor)
        whole = torch.empty(tensor.shape, dtype=torch.float32) if sharded else tensor
        for number, part in enumerate(matrices(whole, parts)):
            source = draws and draws.after(number * part.numel())
            fill(scheme, part, source, fan_in=fan_in, fan_out=fan_out)
        for piece in pieces(tensor) if sharded else ():
            piece.local.copy_(piece.of(whole))
    padding = getattr(site.module, "padding_idx", None)
    if site.kind.role == "embedding" and padding is not None:
        clear_row(tensor, padding)


def require_type(site: Site, scheme: Scheme) -> None:
    """Refuses tensors that do not hold the numbers that would be written."""
    stored, cure = site.stored, f"give the rule ({site.name!r}, 'keep') and fill it yourself"
    if not stored.is_floating_point() and scheme not in _FOR_EVERY_TYPE:
        raise InputError(f"{site.name!r} is {stored.dtype}, {scheme} draws real numbers: {cure}")
    if scheme == KEEP:
        return
    if stored.layout != torch.strided or stored.is_quantized:
        kind = stored.dtype if stored.is_quantized else stored.layout
        raise InputError(f"{site.name!r} is stored as {kind}, {scheme} writes dense values: {cure}")
    if _means_other_numbers(stored):
        raise InputError(
            f"{site.name!r} is a {type(stored).__name__}, of which lampwork does not know how it "
            f"stores its values: {cure}"
        )


def _means_other_numbers(stored: Tensor) -> bool:
    """Whether a tensor subclass of somebody else decides what is stored."""
    plain = torch._C._disabled_torch_dispatch_impl
    dispatch = getattr(type(stored), "__torch_dispatch__", plain)
    return dispatch is not plain and not is_distributed(stored)


def require_writable(site: Site, scheme: Scheme) -> None:
    """Refuses what cannot be written as it stands now."""
    if site.stored.is_meta:
        raise InputError(
            f"{site.name!r} is on meta and holds no memory: call model.to_empty(device='cpu') "
            "first, or let plan.apply() make it"
        )
    require_type(site, scheme)


def _require_filled(sites: Sequence[Site]) -> None:
    if not sites:
        return
    names = ", ".join(repr(site.name) for site in sites)
    what = "buffer" if sites[0].kind.role == "buffer" else "frozen parameter"
    first = sites[0].name
    raise InputError(
        f"{what} {names} was on meta when planned, so nobody holds its values: build the model "
        f"outside torch.device('meta'), or give a rule, e.g. ({first!r}, 'zeros'), or "
        f"({first!r}, 'keep') if you fill it"
    )
