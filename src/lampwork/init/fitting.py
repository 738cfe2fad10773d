"""One pass over a model in which each layer is measured, corrected and, at the end, scaled.

The hook on a layer's output hands the corrected output on, so that every later layer already sees
what it will see when all layers before it are scaled. Doing it layer by layer with a whole pass for
each, as published, gives the same and takes L passes for L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lampwork._core import names
from lampwork.init.computed import write_through
from lampwork.init.plan import Plan, Row
from lampwork.init.registry import KEEP, Scheme
from lampwork.init.survey import Site, survey
from lampwork.init.untouched import require_memory
from lampwork.taps.forward import as_it_was, call_of, explain, on_meta_as_the_model
from lampwork.taps.select import refuse_unhookable
from lampwork.taps.tap import on_output


@dataclass(frozen=True)
class Fitted:
    """One layer: the standard deviation of its output before, and by what its weight was scaled.

    Attributes:
        name: of the module.
        mean: of its output, before.
        std: of its output, before.
        factor: of the weight; the mean of them where each unit has its own.
    """

    name: str
    mean: float
    std: float
    factor: float


@dataclass(frozen=True)
class Fit:
    """What was fitted, in the order of the pass, and what was not, with the reason."""

    layers: list[Fitted] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"fitted {len(self.layers)} layers"]
        lines += [
            f"{layer.name or 'the model'}: output {layer.mean:.3g} ± {layer.std:.3g}, "
            f"weight × {layer.factor:.4g}"
            for layer in self.layers
        ]
        return "\n".join([*lines, *(f"left {name}: {why}" for name, why in self.skipped.items())])


@dataclass(frozen=True)
class Change:
    """What becomes of a layer: output = factor · (output − bias) + shift, both by unit or one."""

    factor: Tensor
    shift: Tensor | None

    def of(self, output: Tensor, bias: Tensor | None, dim: int) -> Tensor:
        """The output as it will be; `dim` is that of the units."""
        if bias is None or self.shift is None:
            return output * along(self.factor, dim).to(output)
        rest = self.shift.double() - self.factor * bias.double()
        if self.factor.dim() == 0:  # one pass over the output
            return torch.add(along(rest, dim).to(output), output, alpha=float(self.factor))
        return torch.addcmul(
            along(rest, dim).to(output), output, along(self.factor, dim).to(output)
        )


class Fitting:
    """One pass over a model in which each layer is measured and corrected at its first call."""

    def __init__(self, model: nn.Module, globs: Iterable[str]) -> None:
        refuse_unhookable(model)
        require_memory(model)
        self._model = model
        self._sites = survey(model)
        self._fit = Fit()
        weights = {
            site.name.rpartition(".")[0]: site
            for site in self._sites
            if site.attribute == "weight" and is_layer(site)
        }
        for site in self._sites:
            if site.kind.role == "embedding" and any(isinstance(m, nn.Linear) for m in site.owners):
                self._fit.skipped[site.names[-1].rpartition(".")[0]] = "shared with an embedding"
        chosen = names.select(list(weights), globs, what="linear or convolutional layer")
        self._weights: dict[nn.Module, tuple[str, Site]] = {}
        for name in chosen:
            why = _left_alone(weights[name])
            if why:
                self._fit.skipped[name] = why
                continue
            for owner in weights[name].owners:
                self._weights[owner] = (name, weights[name])
        self._changes: dict[int, tuple[Site, nn.Module, Change]] = {}

    def run(
        self,
        x: Any,
        change: Callable[[Tensor, Tensor | None, int], Change | str],
        seed: int | None,
    ) -> Fit:
        """Runs the pass, then writes."""
        self._change = change
        args, kwargs = on_meta_as_the_model(self._model, call_of(x))
        kept = [] if seed is None else self._draw(seed)
        handles = [on_output(module, self._after) for module in self._weights]
        try:
            with as_it_was(self._model), torch.no_grad():
                self._model(*args, **kwargs)
        except Exception as error:
            with torch.no_grad():
                for site, values in kept:
                    _set(site, values)
            raise explain(self._model, (args, kwargs), error, None) from error
        finally:
            for handle in handles:
                handle.remove()
        with torch.no_grad():
            for site, module, made in self._changes.values():
                _write(site, module, made)
        reached = {layer.name for layer in self._fit.layers} | {*self._fit.skipped}
        for name, _ in self._weights.values():
            if name not in reached:
                self._fit.skipped[name] = "the pass does not call it as a module"
        return self._fit

    def _draw(self, seed: int) -> list[tuple[Site, Tensor]]:
        """Orthogonal weights; returns what was there."""
        chosen = {id(site): site for _, site in self._weights.values()}
        scheme = Scheme("orthogonal")
        rows = [_row(site, scheme if id(site) in chosen else KEEP) for site in self._sites]
        kept = [
            (site, getattr(site.module, site.attribute).detach().clone())
            for site in chosen.values()
        ]
        Plan(self._model, rows).apply(seed=seed)
        return kept

    def _after(self, module: nn.Module, output: Any) -> Tensor | None:
        name, site = self._weights[module]
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        bias = getattr(module, "bias", None)
        dim = _unit_dim(module)
        known = self._changes.get(id(site))
        if known:
            return known[2].of(output, bias, dim)
        if name in self._fit.skipped:
            return None
        made = self._change(output, bias, dim)
        if isinstance(made, str):
            self._fit.skipped[name] = made
            return None
        self._changes[id(site)] = (site, module, made)
        means, moment = moments(output, dim)
        mean = float(means.mean())
        std = math.sqrt(max(0.0, moment - mean**2))
        self._fit.layers.append(Fitted(name, mean, std, float(made.factor.mean())))
        return made.of(output, bias, dim)


def is_layer(site: Site) -> bool:
    """Whether it is the weight of a layer that can be fitted: linear or convolutional."""
    return site.kind.role in ("weight", "convolution", "transposed", "packed") and (
        isinstance(site.module, nn.Linear | _ConvNd) or type(site.module).__name__ == "Conv1D"
    )


def _left_alone(site: Site) -> str | None:
    if not site.stored.requires_grad:
        return "frozen"
    weight = site.computed.value() if site.computed else site.stored
    if not bool((weight != 0).any()):
        return "its weight is 0"
    if site.computed and not site.computed.keeps_scale(weight):
        return "its parametrisation undoes every scale"
    return None


def moments(output: Tensor, dim: int) -> tuple[Tensor, float]:
    """The mean of each unit, and the second moment of all."""
    others = [d for d in range(output.dim()) if d != dim % output.dim()]
    wide = output if output.dtype == torch.float64 else output.float()
    means = wide.sum(others, dtype=torch.float64) if others else wide.double()
    means = means * (means.numel() / max(1, output.numel()))
    squares = float(torch.linalg.vector_norm(wide, dtype=torch.float64)) ** 2
    return means, squares / max(1, output.numel())


def _unit_dim(module: nn.Module) -> int:
    """Which dimension of its output, counted from the end, holds the units."""
    return -1 - len(module.kernel_size) if isinstance(module, _ConvNd) else -1


def along(by_unit: Tensor, dim: int) -> Tensor:
    """One number by unit, or one for all, as it is broadcast over an output."""
    if by_unit.dim() == 0:
        return by_unit
    return by_unit.reshape(-1, *[1] * (-dim - 1))


def _write(site: Site, module: nn.Module, made: Change) -> None:
    weight, factor = getattr(site.module, site.attribute).detach(), made.factor
    if factor.dim():
        if isinstance(module, _ConvTransposeNd):  # (in, out / groups, *kernel)
            groups = module.groups
            grouped = weight.reshape(groups, -1, *weight.shape[1:])
            by_unit = factor.reshape(groups, 1, -1, *[1] * (weight.dim() - 2))
            values = (grouped * by_unit.to(weight.dtype)).reshape(weight.shape)
        elif type(module).__name__ == "Conv1D":  # (in, out)
            values = weight * factor.to(weight.dtype)
        else:
            values = weight * factor.reshape(-1, *[1] * (weight.dim() - 1)).to(weight.dtype)
    else:
        values = weight * factor.to(weight.dtype)
    _set(site, values)
    bias = getattr(module, "bias", None)
    if isinstance(bias, nn.Parameter) and made.shift is not None and made.shift is not bias:
        bias.copy_(made.shift)


def _set(site: Site, values: Tensor) -> None:
    if not site.computed:
        site.stored.copy_(values)
        return
    cure = "fit it before register_parametrization, or leave it out with modules="
    write_through(site.computed, values, site.name, cure)


def _row(site: Site, scheme: Scheme) -> Row:
    kind = site.kind
    fans: dict[str, Any] = {"fan_in": kind.fan_in, "fan_out": kind.fan_out}
    return Row(
        name=site.name,
        shape=tuple(site.shape),
        role=kind.role,
        **fans,
        nonlinearity="linear",
        residual=False,
        scheme=scheme,
        std=None,
        reason="LSUV starts from orthogonal weights",
        tied=site.tied,
        parts=kind.parts,
    )
