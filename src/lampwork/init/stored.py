"""What a tensor of the plan holds now, as its layer uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lampwork.init.defaults import WEIGHTS
from lampwork.init.registry import KEEP, UNFILLED
from lampwork.init.rehearsal import local
from lampwork.init.survey import Site

if TYPE_CHECKING:
    from lampwork.init.plan import Row


@dataclass(frozen=True)
class Value:
    """What one tensor of the plan holds now.

    Attributes:
        row: its row.
        site: where it lies.
        values: this rank's part of it, as the layer uses it.
        binding: whether the plan was applied, or asked for by the user.
    """

    row: Row
    site: Site
    values: Tensor
    binding: bool

    @property
    def is_whole(self) -> bool:
        """Whether these are all values of the tensor, and not one rank's part."""
        return tuple(self.values.shape) == self.row.shape

    @property
    def is_weight(self) -> bool:
        """Whether it maps one space to another."""
        return self.row.role in WEIGHTS and len(self.row.shape) > 1 and self.values.numel() > 0

    @property
    def std(self) -> float | None:
        """Of the values, without the padding of an embedding."""
        own = drawn(self)
        if own.numel() == 0 or not own.dtype.is_floating_point:
            return None
        return float(own.double().std(correction=0))


@torch.no_grad()
def values_of(row: Row, site: Site, *, applied: bool) -> Value:
    """The tensor's values as they are; a parametrised one is computed as in evaluation."""
    binding = row.scheme not in (KEEP, UNFILLED) and (applied or row.chosen_by != "default")
    if not site.computed:
        return Value(row, site, local(site.stored), binding)
    values = local(site.computed.value())
    return Value(row, site, values, binding and site.computed.keeps_scale(values))


def drawn(value: Value) -> Tensor:
    """The values without the padding row of an embedding."""
    index = getattr(value.site.module, "padding_idx", None)
    if value.row.role != "embedding" or index is None or not value.is_whole:
        return value.values
    return torch.cat([value.values[:index], value.values[index + 1 :]])


def padding(value: Value) -> Tensor | None:
    """The padding row of an embedding, None where there is none here."""
    index = getattr(value.site.module, "padding_idx", None)
    is_padded = value.row.role == "embedding" and index is not None and value.is_whole
    return value.values[index] if is_padded else None
