"""What is wrong with values at rest: garbage, forgotten scales, broken ties, and not as planned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lampwork.init.check import Finding, plain
from lampwork.init.off_plan import misread_fan, off_plan
from lampwork.init.stored import Value
from lampwork.init.survey import Site

if TYPE_CHECKING:
    from lampwork.init.plan import Row

_TINY, _HUGE = 1e-30, 1e15
"""No initialisation gives magnitudes between 0 and the first, or above the second."""


def findings(value: Value) -> Iterator[Finding]:
    """What is wrong with one tensor, the worst first."""
    garbage = _garbage(value)
    if garbage:
        yield garbage
        return
    if value.binding and value.values.is_floating_point() and value.values.numel():
        off = off_plan(value)
        if off:
            yield off
    elif value.row.scheme == "ones" and value.row.role == "norm":
        forgotten = _forgotten_norm(value)
        if forgotten:
            yield forgotten
    elif value.is_weight and not value.binding:
        misread = misread_fan(value)
        if misread:
            yield misread


def _garbage(value: Value) -> Finding | None:
    """`init-unwritten`: memory that nobody has written since it was allocated."""
    values = value.values
    if not values.is_floating_point() or not values.numel():
        return None
    is_buffer = value.row.role == "buffer"
    nan = int(torch.isnan(values).sum())
    size = values.abs()
    odd = int(((size > 0) & (size < _TINY) | (size > _HUGE)).sum())
    if is_buffer and isinstance(value.site.module, _NormBase):
        is_variance = value.site.attribute == "running_var"
        odd += int((values < 0).sum()) if is_variance else 0
        never = _never_counted(value.site.module)
        if is_variance and never and bool((values == 0).all()):
            odd = values.numel()
    elif is_buffer:
        odd = 0  # a mask holds -inf, a buffer may be anything else
    if not nan + odd:
        return None
    return Finding(
        "init-unwritten",
        "fail",
        value.row.name,
        {
            "nan": nan,
            "absurd": odd,
            "of": values.numel(),
            "written_in_place": bool(value.site.stored._version),
        },
        "It holds what no initialisation gives, so its memory was never written since it was "
        "allocated (to_empty, torch.empty): initialise it.\n"
        "plan = lampwork.init.plan(model, x); plan.apply()",
    )


def _never_counted(module: nn.Module) -> bool:
    counted = getattr(module, "num_batches_tracked", None)
    return isinstance(counted, Tensor) and int(counted) == 0


def _forgotten_norm(value: Value) -> Finding | None:
    """`init-zero` or `init-unwritten`: the scale of a normalisation that nobody has set."""
    row, values = value.row, value.values.float()
    if not values.numel():
        return None
    if bool((values == 0).all()) and row.depth is not None and not row.residual:
        code, what = "init-zero", "The scale is 0 although it closes no residual branch"
    elif float(values.abs().mean()) > 1e3 or (0 < float(values.abs().mean()) < 1e-3):
        code, what = "init-unwritten", "The scale has nothing of a scale, which starts at 1"
    else:
        return None
    return Finding(
        code,
        "fail",
        row.name,
        {"mean": plain(float(values.mean())), "planned": 1.0},
        f"{what}: what lies behind sees its shift alone, so set it to 1.\n"
        f"torch.nn.init.ones_(model.get_parameter({row.name!r}))",
    )


def untied(rows: Sequence[Row], placed: Sequence[tuple[Row, Site]]) -> Iterator[Finding]:
    """`init-untied`: names that the plan knows as one tensor and that are several now."""
    sites: dict[str, list[Site]] = {}
    for row, site in placed:
        sites.setdefault(row.name, []).append(site)
    for row in rows:
        apart = sites.get(row.name, [])
        if row.tied and len(apart) > 1 and not any(site.computed for site in apart):
            names = [site.name for site in apart]
            yield Finding(
                "init-untied",
                "fail",
                row.name,
                {"tensors": len(apart), "names": names},
                "These names were one tensor when the plan was made and are several now, as "
                "to_empty and deepcopy leave them: tie them again.\n"
                f"# {names[1]} = {names[0]}",
            )
