"""What there is to initialise: one site per tensor of the model, with all the names it goes by.

A site is a parameter or a buffer. A tensor that several modules share is one site under its first
name. A weight that is computed from others (`lampwork.init.computed`) is one site under the name
that the layer uses, `fc.weight`; the raw names, `fc.parametrizations.weight.original…` or
`fc.weight_v`, are its others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from lampwork._core.errors import InputError
from lampwork.init.computed import Computed, computed
from lampwork.init.fans import Kind, kind


@dataclass(frozen=True, eq=False)
class Site:
    """One tensor of the model, where it lies and what it is.

    Attributes:
        name: the first of its names.
        tied: its other names.
        module: the module that holds it.
        attribute: its name in that module.
        shape: its shape.
        kind: its role, fans and parts.
        computed: what it is computed from and written through; None for a parameter or buffer.
        sharing: the other modules that hold it.
    """

    name: str
    tied: tuple[str, ...]
    module: nn.Module
    attribute: str
    shape: torch.Size
    kind: Kind
    computed: Computed | None = None
    sharing: tuple[nn.Module, ...] = ()

    @property
    def stored(self) -> Tensor:
        """The tensor that is stored now; of a computed one the first that it is made from."""
        return self.raw[0]

    @property
    def raw(self) -> list[Tensor]:
        """The tensors that are stored; several where it is computed."""
        if self.computed:
            return list(self.computed.originals().values())
        return [getattr(self.module, self.attribute)]

    @property
    def owners(self) -> tuple[nn.Module, ...]:
        """All modules that hold it."""
        return (self.module, *self.sharing)

    @property
    def names(self) -> tuple[str, ...]:
        """All its names, the first one first."""
        return (self.name, *self.tied)


def survey(model: nn.Module) -> list[Site]:
    """All sites of the model, in the order of registration.

    Raises:
        InputError: a lazy parameter, which has no shape yet.
    """
    found: dict[tuple[int, ...], Site] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for key, site in sites_of(module, path):
            found[key] = _tie(found[key], site) if key in found else site
    return list(found.values())


def sites_of(module: nn.Module, path: str = "") -> Iterator[tuple[tuple[int, ...], Site]]:
    """The module's own sites, each with the identity of its tensors."""
    prefix = f"{path}." if path else ""
    if isinstance(module, ParametrizationList):
        return  # its tensors belong to the module that is parametrised
    made_from: set[str] = set()
    for weight in computed(module):
        raw, shape = weight.originals(), weight.value().shape
        made_from |= {*raw}
        others, what = tuple(prefix + name for name in raw), kind(module, weight.attribute, shape)
        name = weight.attribute
        site = Site(prefix + name, others, module, name, shape, what, weight)
        yield tuple(id(tensor) for tensor in raw.values()), site
    for name, parameter in module.named_parameters(recurse=False):
        if name in made_from:
            continue
        if is_lazy(parameter):
            raise _lazy("parameter", prefix + name)
        what = kind(module, name, parameter.shape)
        yield (id(parameter),), Site(prefix + name, (), module, name, parameter.shape, what)
    for name, buffer in module.named_buffers(recurse=False):
        if is_lazy(buffer):
            raise _lazy("buffer", prefix + name)
        yield (id(buffer),), Site(prefix + name, (), module, name, buffer.shape, Kind("buffer"))


def _lazy(what: str, name: str) -> InputError:
    return InputError(
        f"{what} {name!r} is lazy and has no shape yet: run one batch through the model first"
    )


def _tie(first: Site, other: Site) -> Site:
    """One site for both. A tensor that is an embedding anywhere is an embedding."""
    first_counts = first.kind.role == "embedding" or other.kind.role != "embedding"
    tied = dict.fromkeys([*first.tied, *other.names])
    tied.pop(first.name, None)
    counting, shared = (first, other) if first_counts else (other, first)
    return replace(
        counting,
        name=first.name,
        tied=tuple(tied),
        sharing=(*counting.sharing, *shared.owners),
    )
