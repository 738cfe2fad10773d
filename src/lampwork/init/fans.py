"""How many weights meet in one unit: the role and the true fans of a parameter, by layer type.

The shape alone does not tell them. A grouped convolution has a smaller fan-out than its shape
says, a transposed one has its fans the other way round, the gates of an LSTM and the three
projections of an attention layer are matrices of their own, stacked in one tensor.

fan_in is the number of weights that meet in one output unit, fan_out the number through which
one input unit acts; for stacked matrices those of one part. Where a stride spreads a transposed
convolution's taps over its outputs, fan_in is the mean over the outputs and need not be whole.
A convolution's fan_out leaves its stride out, as He et al. (2015) and torch do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True)
class Kind:
    """What a parameter is to its layer.

    Attributes:
        role: weight, convolution, transposed, recurrent, packed, embedding, norm, bias or other.
        fan_in: weights that meet in one output unit; None where it has no meaning or is unknown.
        fan_out: weights through which one input unit acts.
        parts: into how many equal blocks each leading dimension falls that are matrices of their
            own: `(4,)` for the gates of an LSTM. 0 where every index has its matrix: `(0, 2)` for
            experts of two stacked matrices each.
        start: the constant that a scale starts at; None for what is no scale, or starts at 1.
    """

    role: str
    fan_in: float | None = None
    fan_out: float | None = None
    parts: tuple[int, ...] = ()
    start: float | None = None


def kind(module: nn.Module, name: str, shape: Sequence[int]) -> Kind:
    """What the module's own parameter `name` of that shape is.

    A parameter that the module's type does not explain is a bias if it is a vector called `bias`,
    else `other` without fans.
    """
    for types, explain in _BY_TYPE:
        if isinstance(module, types):
            found = explain(module, name, shape)
            if found:
                return found
    if _is_conv1d(module) and name == "weight":
        return _conv1d(name, shape) or Kind("other")
    return Kind("bias") if name == "bias" and len(shape) == 1 else Kind("other")


def matrices(tensor: Tensor, parts: Sequence[int]) -> list[Tensor]:
    """The matrices that are stacked in a tensor, in order, as views of it; `parts` as in `Kind`."""
    if parts and parts[0] == 0:
        return [matrix for index in tensor for matrix in matrices(index, parts[1:])]
    found = [tensor]
    for dim, count in enumerate(parts):
        found = [block for whole in found for block in whole.chunk(count, dim)]
    return found


def matrix_shape(shape: Sequence[int], parts: Sequence[int]) -> tuple[int, ...]:
    """The shape of each of the `matrices`."""
    counts = [*parts, *[1] * (len(shape) - len(parts))]
    return tuple(size // count for size, count in zip(shape, counts, strict=True) if count)


def of_shape(shape: Sequence[int]) -> tuple[float, float] | None:
    """(fan_in, fan_out) as torch reads them off a shape (out, in, *kernel); None below 2-D."""
    if len(shape) < 2:
        return None
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def _linear(module: nn.Module, name: str, shape: Sequence[int]) -> Kind | None:
    return Kind("weight", shape[1], shape[0]) if name == "weight" else None


def _is_conv1d(module: nn.Module) -> bool:
    """The linear layer of OpenAI's GPT as transformers has it; its type is told by its name."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf") and hasattr(module, "nx")


def _conv1d(name: str, shape: Sequence[int]) -> Kind | None:
    # The weight is (in, out); three times as wide as its input it is q, k and v in one.
    if name != "weight" or len(shape) != 2:
        return None
    packed = shape[1] == 3 * shape[0]
    return (
        Kind("packed", shape[0], shape[0], (1, 3)) if packed else Kind("weight", shape[0], shape[1])
    )


def _bilinear(module: nn.Module, name: str, shape: Sequence[int]) -> Kind | None:
    # fan_in: every pair of inputs has a weight; fan_out: as seen from the first input.
    return Kind("weight", shape[1] * shape[2], shape[0] * shape[2]) if name == "weight" else None


def _convolution(module: _ConvNd, name: str, shape: Sequence[int]) -> Kind | None:
    if name != "weight":
        return None
    taps, groups = math.prod(shape[2:]), module.groups
    return Kind("convolution", shape[1] * taps, shape[0] * taps // groups, (groups,))


def _transposed(module: _ConvNd, name: str, shape: Sequence[int]) -> Kind | None:
    # The weight is (in, out / groups, *kernel). Each output unit meets one tap in `stride`.
    if name != "weight":
        return None
    taps, groups = math.prod(shape[2:]), module.groups
    fan_in = shape[0] * taps / groups / math.prod(module.stride)
    whole = int(fan_in) if fan_in == int(fan_in) else fan_in
    return Kind("transposed", whole, shape[1] * taps, (groups,))


def _embedding(module: nn.Module, name: str, shape: Sequence[int]) -> Kind | None:
    # A lookup: one weight per output unit, one row per token.
    return Kind("embedding", 1, shape[1]) if name == "weight" else None


def _recurrent(module: nn.RNNBase | nn.RNNCellBase, name: str, shape: Sequence[int]) -> Kind | None:
    if name.startswith("bias"):
        return Kind("bias")
    if not name.startswith(("weight_ih", "weight_hh", "weight_hr")):
        return None
    gates = 1 if name.startswith("weight_hr") else shape[0] // module.hidden_size
    return Kind("recurrent", shape[1], shape[0] // gates, (gates,))


def _attention(module: nn.Module, name: str, shape: Sequence[int]) -> Kind | None:
    if name == "in_proj_weight":
        return Kind("packed", shape[1], shape[0] // 3, (3,))
    if name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
        return Kind("weight", shape[1], shape[0])
    if name in ("bias_k", "bias_v"):  # one learned token, (1, 1, width)
        return Kind("other", shape[2], shape[2])
    return Kind("bias") if name == "in_proj_bias" else None


def _norm(module: nn.Module, name: str, shape: Sequence[int]) -> Kind | None:
    return Kind("norm") if name in ("weight", "bias") else None


_BY_TYPE: tuple[tuple[type | tuple[type, ...], Callable[..., Kind | None]], ...] = (
    (nn.Linear, _linear),
    (nn.Bilinear, _bilinear),
    (_ConvTransposeNd, _transposed),
    (_ConvNd, _convolution),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (RECURRENT, _recurrent),
    (nn.MultiheadAttention, _attention),
    (NORMS, _norm),
)
