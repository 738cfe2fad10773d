"""What a tensor gets where no rule speaks: the field's usual choice for its kind, and why."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from lampwork.init.fans import matrix_shape
from lampwork.init.gains import gain
from lampwork.init.registry import KEEP, UNFILLED, Scheme
from lampwork.init.survey import Site
from lampwork.taps.trace import Use

# Roles that a scheme given for the whole model applies to.
WEIGHTS = ("weight", "convolution", "transposed", "recurrent", "packed", "expert")

# Odd, saturating, of slope 1 at 0. With the gain that keeps the second moment through one layer a
# deep net of these is chaotic: squared gradients grow by 1.18 a layer with tanh. A little above 1,
# the edge of chaos (Poole et al. 2016), they stay within a factor of three through a hundred
# layers, by quadrature, and orthogonal matrices keep them for each input (Pennington et al. 2017).
_CRITICAL = {"tanh": 1.1, "hardtanh": 1.0, "softsign": 1.3}


# The narrower side of a matrix up to which it is made orthogonal, and how many stacked ones.
_NARROW, _FEW = 1024, 16


class Choice(NamedTuple):
    """A scheme, the reason for it in words, and who chose it, see `Row.chosen_by`."""

    scheme: Scheme
    reason: str
    chosen_by: str = "default"


def choose(site: Site, use: Use, source: str) -> Choice | None:
    """The default for one tensor; None where there is none.

    Args:
        site: the tensor.
        use: what the layer's output meets.
        source: how that is known, in words.
    """
    if site.kind.role != "buffer" and not site.stored.requires_grad:
        return _frozen(site)
    match site.kind.role:
        case "buffer":
            return _buffer(site)
        case "bias":
            return _bias(site)
        case "norm" if site.kind.start is not None and site.kind.start != 1.0:
            return _start(site, site.kind.start)
        case "norm" if site.attribute == "weight" or site.kind.start == 1.0:
            return Choice(Scheme("ones"), "normalisation starts as the identity: scale 1")
        case "norm":
            return Choice(Scheme("zeros"), "normalisation starts as the identity: shift 0")
        case "embedding":
            return _embedding(site)
        case "recurrent":
            return _stacked(site)
        case "packed" if isinstance(site.module, nn.MultiheadAttention):
            return _stacked(site)
        case "weight" | "convolution" | "transposed" | "packed" | "expert":
            return _weight(site, use, source)
    return _other(site)


def _frozen(site: Site) -> Choice:
    if site.stored.is_meta:
        return Choice(UNFILLED, "frozen, and on meta: only the model's code can compute it")
    return Choice(KEEP, "frozen: it keeps its values, but for a rule that names it")


def _weight(site: Site, use: Use, source: str) -> Choice:
    if isinstance(site.module, nn.MultiheadAttention):
        return Choice(Scheme("xavier_uniform"), "projection of attention")
    met = f"{use.nonlinearity} follows" if use.nonlinearity != "linear" else "no activation follows"
    factor = gain_before(use)
    if use.nonlinearity in _CRITICAL:
        reason = f"{met} ({source}): orthogonal, fan_in, gain {factor}: at the edge of chaos"
        return _orthogonal(site, factor, reason)
    reason = f"{met} ({source}): fan_in, gain {factor:.3f}"
    if site.kind.role == "weight" and is_narrow(site):
        return _orthogonal(site, factor, f"{reason}, orthogonal")
    options: dict[str, str | float] = {"nonlinearity": use.nonlinearity}
    if use.param is not None:
        options["a"] = use.param
    return Choice(Scheme("kaiming_normal", options), reason)


def gain_before(use: Use) -> float:
    """The default gain of a layer whose output meets this, in units of 1/√fan_in."""
    return _CRITICAL.get(use.nonlinearity) or gain(use.nonlinearity, use.param)


def is_narrow(site: Site) -> bool:
    """Whether its matrices are worth making orthogonal: in narrow layers a signal strays less.

    Of 30 ReLU layers it is the sum of 30 relative variances of 3/width, with independent values
    of 5/width. Wide matrices cost time and, on shards, the memory of the whole.
    """
    if len(site.shape) < 2:
        return False
    shape = matrix_shape(site.shape, site.kind.parts)
    count = math.prod(site.shape) // max(1, math.prod(shape))
    return count <= _FEW and min(shape[0], math.prod(shape[1:])) <= _NARROW


def _orthogonal(site: Site, factor: float, reason: str) -> Choice:
    fan_in, shape = site.kind.fan_in, matrix_shape(site.shape, site.kind.parts)
    # In units of 1/√fan_in, as the orthonormal rows of a square or wide matrix have it.
    longer = max(shape[0], math.prod(shape[1:]))
    widened = factor * math.sqrt(longer / fan_in) if fan_in else factor
    return Choice(Scheme("orthogonal", {"gain": widened}), reason)


def _stacked(site: Site) -> Choice:
    if site.attribute.startswith("weight_hh"):
        return Choice(Scheme("orthogonal"), "each gate's recurrent matrix keeps lengths")
    if site.kind.role == "packed":
        return Choice(Scheme("xavier_uniform"), "each projection of attention a matrix of its own")
    return Choice(Scheme("lecun_normal"), "each gate a matrix of its own, its input of variance 1")


def _bias(site: Site) -> Choice:
    is_lstm = isinstance(site.module, nn.LSTM | nn.LSTMCell)
    if is_lstm and site.attribute.startswith("bias_ih"):
        return Choice(Scheme("lstm_bias"), "forget gate 1, so that the cell remembers")
    return Choice(Scheme("zeros"), "a bias starts at 0")


def _embedding(site: Site) -> Choice:
    padding = getattr(site.module, "padding_idx", None)
    kept = f", row {padding} is padding and 0" if padding is not None else ""
    scheme = Scheme("normal", {"mean": 0.0, "std": 0.02})
    return Choice(scheme, f"small rows keep the first logits small{kept}")


def _buffer(site: Site) -> Choice:
    if not site.stored.is_meta:
        return Choice(KEEP, "a buffer keeps its values")
    if isinstance(site.module, _NormBase):
        name = "ones" if site.attribute == "running_var" else "zeros"
        return Choice(Scheme(name), "on meta: running statistics start at mean 0, variance 1")
    reason = "on meta: only the model's code can compute it; a rule 'keep' leaves that to you"
    return Choice(UNFILLED, reason)


def _start(site: Site, value: float) -> Choice:
    if site.kind.role == "norm" and value == 0.0:
        return Choice(Scheme("zeros"), "normalisation starts as the identity: scale 1 + 0")
    if site.stored.is_meta:
        return Choice(Scheme("ones"), "a scale starts at 1; on meta its own constant is not known")
    return Choice(
        Scheme("constant", {"val": value}), "a scale starts at the constant that it was built with"
    )


def _other(site: Site) -> Choice | None:
    if site.kind.start is not None:
        return _start(site, site.kind.start)
    if isinstance(site.module, nn.PReLU):
        slope = {"val": site.module.init}
        return Choice(Scheme("constant", slope), "the slope that the layer was built with")
    if isinstance(site.module, nn.MultiheadAttention):
        return Choice(Scheme("xavier_normal"), "a learned token of attention, as torch")
    return None
