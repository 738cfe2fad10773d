"""Weights scaled on a batch of data, in one forward pass: LSUV, and mean and variance by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lampwork._core.errors import InputError
from lampwork.init.fitting import Change, Fit, Fitted, Fitting, along, moments
from lampwork.init.plan import Row
from lampwork.init.registry import LSUV

__all__ = ["Fit", "Fitted", "data_dependent", "fit_rows", "lsuv"]


def lsuv(
    model: nn.Module,
    x: Any,
    *,
    std: float = 1.0,
    orthogonal: bool = True,
    seed: int = 0,
    modules: Iterable[str] = ("*",),
) -> Fit:
    """Layer-sequential unit-variance initialisation (Mishkin & Matas 2016), in one forward pass.

    Weights of linear and convolutional layers become orthogonal and are then scaled so that the
    output of each has variance `std`² over the batch, positions and units. Biases stay. The pass
    runs in evaluation mode as the authors' code does; modes, buffers and the random state are
    afterwards what they were. A layer that is called several times is fitted at its first call.

    Args:
        model: with memory; frozen layers, weights of zeros, and weights that are shared with an
            embedding are left alone, see `Fit.skipped`.
        x: a batch of real data, as the model takes it.
        std: of the outputs.
        orthogonal: whether to draw orthogonal weights first; False scales those that are there.
        seed: of the orthogonal weights, as in `Plan.apply`.
        modules: globs over the names of the modules to fit.

    Returns:
        What was measured and scaled. Where the pass fails nothing has been written.

    Raises:
        InputError: a model on meta or one that does not run on `x`, a compiled or scripted model.
        NameNotFound: a glob that matches no linear or convolutional layer.
    """
    if not 0 < std < math.inf:
        raise InputError(f"outputs cannot have a standard deviation of {std}: pass more than 0")

    def change(output: Tensor, bias: Tensor | None, dim: int) -> Change | str:
        factor = _factor(output, bias, dim, std)
        if isinstance(factor, str):
            return factor
        return Change(torch.tensor(factor, dtype=torch.float64), bias)

    return Fitting(model, modules).run(x, change, seed if orthogonal else None)


def _factor(output: Tensor, bias: Tensor | None, dim: int, std: float) -> float | str:
    """R > 0 such that r · (output − bias) + bias has this standard deviation."""
    means, moment = moments(output, dim)
    shifts = torch.zeros_like(means) if bias is None else bias.double()
    fixed = float(shifts.var(correction=0))
    common = float((means * shifts).mean() - means.mean() * shifts.mean()) - fixed
    own = moment - float(means.mean()) ** 2 - 2 * common - fixed
    if not math.isfinite(own):
        return "its output is not finite"
    if own <= 1e-12 * moment:
        return "its output does not vary"
    if fixed >= std * std:
        return f"its bias alone has a standard deviation of {math.sqrt(fixed):.3g}"
    return (-common + math.sqrt(common**2 + own * (std * std - fixed))) / own


def data_dependent(
    model: nn.Module,
    x: Any,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    per: str = "unit",
    modules: Iterable[str] = ("*",),
) -> Fit:
    """Scales weights and sets biases so that outputs have this mean and standard deviation.

    By unit as Salimans & Kingma (2016, "Weight Normalization", section 3), or with one factor and
    one shift for a whole layer. In one forward pass, see `lsuv`. A layer without a bias is scaled
    only. A unit that does not vary keeps its weights.

    Args:
        model: as in `lsuv`; its weights are those that are there.
        x: a batch of real data, as the model takes it.
        mean: of the outputs.
        std: of the outputs.
        per: `"unit"` or `"layer"`.
        modules: globs over the names of the modules to fit.

    Returns:
        What was measured and scaled. Where the pass fails nothing has been written.

    Raises:
        InputError: as `lsuv`, or another `per`.
        NameNotFound: a glob that matches no linear or convolutional layer.
    """
    if per not in ("unit", "layer"):
        raise InputError(f"per={per!r} is not known: pass 'unit' or 'layer'")
    if not 0 < std < math.inf:
        raise InputError(f"outputs cannot have a standard deviation of {std}: pass more than 0")

    def change(output: Tensor, bias: Tensor | None, dim: int) -> Change | str:
        values = output.double() - (0.0 if bias is None else along(bias.double(), dim))
        dims = [d for d in range(values.dim()) if d != dim % values.dim() or per == "layer"]
        if not dims:
            return "one value for each unit: pass a batch"
        centre, spread = values.mean(dims), values.std(dims, correction=0)
        if bool((spread == 0).all()):
            return "its output does not vary"
        factor = torch.where(spread > 0, std / spread, 1.0)
        shift = None
        if bias is not None:
            shift = mean - factor * centre
            shift = shift.expand(bias.shape) if per == "layer" else shift
        return Change(factor, shift)

    return Fitting(model, modules).run(x, change, None)


def fit_rows(rows: Sequence[Row], model: nn.Module, x: Any) -> list[Row]:
    """Runs `lsuv` on the orthogonal weights that the rows of this scheme have written.

    Returns:
        The rows; those that were fitted say by what they were scaled, or why not.
    """
    owners = {row.name: row.name.rpartition(".")[0] for row in rows if row.scheme == LSUV}
    fit = lsuv(model, x, orthogonal=False, modules=list(owners.values()))
    factors = {layer.name: layer.factor for layer in fit.layers}

    def told(row: Row) -> Row:
        owner = owners.get(row.name)
        if owner in factors:
            reason = f"orthogonal, then × {factors[owner]:.4g} for outputs of variance 1"
        elif owner in fit.skipped:
            reason = f"orthogonal, and left so: {fit.skipped[owner]}"
        else:
            return row
        return replace(row, reason=f"LSUV: {reason}")

    return [told(row) for row in rows]
