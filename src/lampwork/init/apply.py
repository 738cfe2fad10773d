"""Carrying a plan out: draw each tensor's values from a stream of its own, and write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from lampwork._core.errors import InputError
from lampwork._core.seeds import derive
from lampwork.init.fans import matrices
from lampwork.init.registry import KEEP, PLANNED, UNFILLED, Scheme, fill, parse
from lampwork.init.survey import Site, survey

if TYPE_CHECKING:
    from lampwork.init.plan import Row

# These need no real numbers.
_FOR_EVERY_TYPE = ("keep", "unfilled", "zeros", "ones", "constant")


def write_rows(rows: Sequence[Row], model: nn.Module, seed: int) -> None:
    """Writes what the rows say into the model; see `Plan.apply`."""
    jobs = [(row, parse(row.scheme, known=PLANNED), site) for row, site in place(rows, model)]
    jobs = [(row, scheme, site) for row, scheme, site in jobs if scheme != KEEP]
    for _, scheme, site in jobs:  # all of them before the first is written
        require_writable(site, scheme)
    for row, scheme, site in jobs:
        fans = (row.fan_in, row.fan_out)
        # What the pass over an example told of stacked matrices is in the row alone.
        site = replace(site, kind=replace(site.kind, parts=row.parts))
        write(site, draw(site, scheme, stream(seed, row.name), *fans))


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


def stream(seed: int, name: str) -> Generator:
    """The random stream of one tensor."""
    number = derive(seed, "init", name)
    generator = torch.Generator(device="cpu")
    generator.manual_seed(number & 0xFFFFFFFF)
    # Torch's CPU generator looks at 32 bits of a seed only: of 10,000 tensors two would share a
    # stream in one model of 86. Twelve bits more say how far into the stream a tensor starts.
    skipped = torch.empty((number >> 32) % 4096, dtype=torch.float32, device="cpu")
    skipped.uniform_(generator=generator)
    return generator


def draw(
    site: Site,
    scheme: Scheme,
    generator: Generator | None,
    fan_in: float | None,
    fan_out: float | None,
) -> Tensor:
    """The values as a contiguous float32 tensor on the CPU, part by part."""
    values = torch.empty(site.shape, dtype=torch.float32, device="cpu")
    for part in matrices(values, site.kind.parts):
        fill(scheme, part, generator, fan_in=fan_in, fan_out=fan_out)
    padding = getattr(site.module, "padding_idx", None)
    if site.kind.role == "embedding" and padding is not None:
        values[padding] = 0.0
    return values


@torch.no_grad()
def write(site: Site, values: Tensor) -> None:
    """Puts values into a site, cast and moved; through the parametrisation where there is one."""
    stored = site.stored
    if not site.parametrised:
        stored.copy_(values)
        return
    try:
        setattr(site.module, site.attribute, values.to(stored.device, stored.dtype))
    except Exception as error:
        raise InputError(
            f"{site.name!r} cannot be written through its parametrisation "
            f"({type(error).__name__}: {error}): initialise it before register_parametrization, "
            f"or give the rule ({site.name!r}, 'keep')"
        ) from error


def require_type(site: Site, scheme: Scheme) -> None:
    """Refuses random values for tensors that hold no real numbers."""
    if not site.stored.is_floating_point() and scheme not in _FOR_EVERY_TYPE:
        raise InputError(
            f"{site.name!r} is {site.stored.dtype}, {scheme} draws real numbers: give the rule "
            f"({site.name!r}, 'keep') and fill it yourself"
        )


def require_writable(site: Site, scheme: Scheme) -> None:
    """Refuses what cannot be written as it stands now."""
    if scheme == UNFILLED:
        raise InputError(
            f"buffer {site.name!r} was on meta when planned, so nobody holds its values: give a "
            f"rule, e.g. ({site.name!r}, 'zeros'), or ({site.name!r}, 'keep') if you fill it"
        )
    if site.stored.is_meta:
        raise InputError(
            f"{site.name!r} is on meta and holds no memory: call "
            "model.to_empty(device='cpu') before plan.apply()"
        )
    require_type(site, scheme)
