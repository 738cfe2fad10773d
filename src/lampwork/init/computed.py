"""Weights that are computed from other tensors: parametrisations, and torch's older hooks.

`torch.nn.utils.parametrize` computes a weight whenever it is asked for. The older
`torch.nn.utils.weight_norm` and `spectral_norm` do it in a hook before each forward pass; in
between their weight is a plain attribute, and what is written there is gone with the next pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lampwork._core.errors import InputError
from lampwork.taps.forward import training

_POWER_STEPS = 15
"""Of power iteration, as torch takes them when it parametrises a weight."""


@dataclass(frozen=True, eq=False)
class Computed:
    """A weight of a layer, and the tensors that it is computed from.

    Attributes:
        module: the layer.
        attribute: the weight's name in it.
    """

    module: nn.Module
    attribute: str

    def originals(self) -> dict[str, Tensor]:
        """The parameters that it is made from, by their dotted names within the layer."""
        raise NotImplementedError

    def value(self) -> Tensor:
        """The weight as it is in evaluation; looking does not move anything."""
        raise NotImplementedError

    def write(self, values: Tensor) -> None:
        """Makes the originals such that these values come out, or raises what goes wrong."""
        raise NotImplementedError

    def keeps_scale(self, values: Tensor) -> bool:
        """Whether twice these values would be given back: weight_norm does, spectral_norm not."""
        raise NotImplementedError


class _Parametrised(Computed):
    @property
    def _list(self) -> ParametrizationList:
        return lists_of(self.module)[self.attribute]

    def originals(self) -> dict[str, Tensor]:
        own = self._list.named_parameters(recurse=False)
        return {f"parametrizations.{self.attribute}.{name}": tensor for name, tensor in own}

    @torch.no_grad()
    def value(self) -> Tensor:
        with training(self._list, False):  # spectral_norm moves its buffers in training
            return self._list()

    def write(self, values: Tensor) -> None:
        setattr(self.module, self.attribute, values)
        if any(isinstance(module, _SpectralNorm) for module in self._list):
            with torch.no_grad(), training(self._list, True):
                for _ in range(_POWER_STEPS):
                    self._list()

    def keeps_scale(self, values: Tensor) -> bool:
        parametrizations: Any = self._list
        found: Any = 2.0 * values
        try:
            for parametrization in reversed(parametrizations):
                found = parametrization.right_inverse(found)
            for parametrization in parametrizations:
                found = (
                    parametrization(*found) if isinstance(found, tuple) else parametrization(found)
                )
        except Exception:  # no inverse, or none for these values
            return False
        return torch.allclose(found, 2.0 * values, rtol=1e-2, atol=1e-6)


@dataclass(frozen=True, eq=False)
class _WeightNormed(Computed):
    hook: WeightNorm

    def originals(self) -> dict[str, Tensor]:
        return {name: getattr(self.module, name) for name in self._names()}

    def _names(self) -> tuple[str, str]:
        return f"{self.attribute}_g", f"{self.attribute}_v"

    @torch.no_grad()
    def value(self) -> Tensor:
        return self.hook.compute_weight(self.module)

    @torch.no_grad()
    def write(self, values: Tensor) -> None:
        norm, direction = (getattr(self.module, name) for name in self._names())
        norm.copy_(torch.norm_except_dim(values, 2, self.hook.dim))
        direction.copy_(values)
        setattr(self.module, self.attribute, self.value())

    def keeps_scale(self, values: Tensor) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class _SpectrallyNormed(Computed):
    hook: SpectralNorm

    def originals(self) -> dict[str, Tensor]:
        name = f"{self.attribute}_orig"
        return {name: getattr(self.module, name)}

    @torch.no_grad()
    def value(self) -> Tensor:
        return self.hook.compute_weight(self.module, do_power_iteration=False)

    @torch.no_grad()
    def write(self, values: Tensor) -> None:
        getattr(self.module, f"{self.attribute}_orig").copy_(values)
        for _ in range(_POWER_STEPS):
            self.hook.compute_weight(self.module, do_power_iteration=True)
        setattr(self.module, self.attribute, self.value())

    def keeps_scale(self, values: Tensor) -> bool:
        return False


def computed(module: nn.Module) -> Iterator[Computed]:
    """The module's own weights that are computed from others."""
    for name in lists_of(module):
        yield _Parametrised(module, name)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            yield _WeightNormed(module, hook.name, hook)
        elif isinstance(hook, SpectralNorm):
            yield _SpectrallyNormed(module, hook.name, hook)


def lists_of(module: nn.Module) -> dict[str, ParametrizationList]:
    """The module's parametrised parameters, by the name that the layer uses."""
    if not is_parametrized(module):
        return {}
    lists = cast(dict[str, ParametrizationList], module.parametrizations)
    return {name: own for name, own in lists.items() if list(own.parameters(recurse=False))}


def write_through(weight: Computed, values: Tensor, name: str, cure: str) -> None:
    """Writes values of any floating dtype and device, and makes sure that they came to something.

    Raises:
        InputError: they cannot be written, or the weight would no longer be finite: a norm of 0
            has no direction.
    """
    like = next(iter(weight.originals().values()))
    try:
        weight.write(values.to(like.device, like.dtype))
    except Exception as error:
        raise InputError(
            f"{name!r} cannot be written through its parametrisation "
            f"({type(error).__name__}: {error}): {cure}"
        ) from error
    if not like.is_meta and not bool(torch.isfinite(weight.value()).all()):
        raise InputError(
            f"{name!r} would not be finite: its parametrisation divides by a norm, and some units "
            f"were to be zeros: {cure}"
        )
