"""The statistic as an operator of torch's, for what torch.compile makes a graph of.

A compiler knows of it what goes in and what comes out, and leaves the rest of the graph as it was:
nothing is fused with it, so that a model computes the same bits as without, and a row is the same
as where a module runs eagerly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lampwork._core.summary import WIDTH
from lampwork._native import stats

_SIZE = WIDTH + stats.SIZES
# The size is part of the name: torch keeps compiled graphs on disk, also those of another version.
_NAME = f"row_of_{_SIZE}"
_made: list[torch.library.Library] = []  # what is compiled with it may live as long as the process


def make() -> None:
    """Make torch know the operator; before it traces anything with it, and once."""
    if _made:
        return
    library = torch.library.Library("lampwork", "DEF")
    # In whatever layout the values are: none has to be copied for it.
    library.define(f"{_NAME}(Tensor values) -> Tensor", tags=(torch.Tag.flexible_layout,))
    library.impl(_NAME, _read, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lampwork::{_NAME}", _shaped, lib=library)
    _made.append(library)


def row(values: Tensor) -> Tensor:
    """As `stats.row_with_sizes`."""
    return getattr(torch.ops.lampwork, _NAME)(values)


def _read(values: Tensor) -> Tensor:
    return stats.row_with_sizes(values.detach())


def _shaped(values: Tensor) -> Tensor:
    return values.new_empty(_SIZE, dtype=torch.float64)
