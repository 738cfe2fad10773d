"""What torch's functions are to a signal: nonlinearities, layers, products, additions.

Functions go by name, `relu` for `torch.relu`, `F.relu` and `Tensor.relu_` alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Nonlinearities by the name of the torch function, with the argument that shapes them.
ACTIVATIONS: Mapping[str, str | None] = {
    "celu": "alpha",
    "elu": "alpha",
    "gelu": None,
    "hardshrink": None,
    "hardsigmoid": None,
    "hardswish": None,
    "hardtanh": None,
    "leaky_relu": "negative_slope",
    "logsigmoid": None,
    "mish": None,
    "prelu": None,
    "relu": None,
    "relu6": None,
    "rrelu": None,
    "selu": None,
    "sigmoid": None,
    "silu": None,
    "sin": None,
    "softplus": "beta",
    "softshrink": None,
    "softsign": None,
    "tanh": None,
    "tanhshrink": None,
}
_SYNONYMS = {"log_sigmoid": "logsigmoid", "swish": "silu", "special_erf": "erf", "expit": "sigmoid"}

CONVOLUTIONS = tuple(f"conv{n}d" for n in (1, 2, 3))
_TRANSPOSED = tuple(f"conv_transpose{n}d" for n in (1, 2, 3))
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_CELLS = ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
# Functions that apply a weight, with the number of leading arguments that are inputs.
LAYERS: Mapping[str, int] = {
    **dict.fromkeys(["linear", "embedding", "embedding_bag", *CONVOLUTIONS, *_TRANSPOSED], 1),
    **dict.fromkeys(["bilinear", *_RECURRENT, *_CELLS], 2),
    "multi_head_attention_forward": 3,
}
# A product is a layer where one side is a parameter, and the end of the signal where both are data.
GROUPED = ("grouped_mm", "_grouped_mm")
PRODUCTS = frozenset(
    ["matmul", "mm", "bmm", "mv", "addmm", "baddbmm", "einsum", "__matmul__", "__rmatmul__"]
) | {*GROUPED, "grouped_mm_fallback"}
ATTENTION = "scaled_dot_product_attention"
WEIGHINGS = frozenset(["softmax", "softmin", "gumbel_softmax"])
ENDS = PRODUCTS | WEIGHINGS | {ATTENTION, "log_softmax", "glu", "exp", "log", "square", "abs"}
ADDITIONS = frozenset(["add", "__add__", "__radd__", "__iadd__"])
MULTIPLICATIONS = frozenset(["mul", "multiply", "__mul__", "__rmul__", "__imul__"])
_DIVISIONS = frozenset(["div", "divide", "true_divide", "__truediv__", "__itruediv__"])
JOINS = frozenset(["cat", "concat", "concatenate", "stack", "hstack", "vstack"])
CUTS = frozenset(["chunk", "split", "tensor_split", "unbind", "split_with_sizes", "__getitem__"])
LOOKUPS = frozenset(["embedding", "embedding_bag", "index_select", "take", "__getitem__"])
# Value by value, so that of one tensor and a function of itself the pairs still belong together.
POINTWISE = (
    ADDITIONS
    | MULTIPLICATIONS
    | _DIVISIONS
    | {*ACTIVATIONS, "erf", "sub", "rsub", "__sub__", "__rsub__", "pow", "__pow__", "square"}
    | {"neg", "__neg__", "to", "float", "type", "type_as", "clone", "contiguous", "clamp"}
)
# Where the arguments of normalisations have their scale and shift.
AFFINE: Mapping[str, tuple[int, int]] = {
    "layer_norm": (2, 3),
    "rms_norm": (2, -1),
    "group_norm": (2, 3),
    "batch_norm": (3, 4),
    "instance_norm": (3, 4),
}

# x·f(x) written out: what it is called, by f.
_SELF_GATED = {
    "sigmoid": "silu",
    "quick sigmoid": "gelu",
    "erf": "gelu",
    "tanh": "gelu",
    "tanh of softplus": "mish",
    "hardsigmoid": "hardswish",
    "relu6": "hardswish",
}


def name_of(func: Callable) -> str:
    """`relu` for torch.relu, F.relu, Tensor.relu_ and so on."""
    name = getattr(func, "__name__", "")
    if name == "default":  # an operator of a library: its packet has the name
        name = str(func).split(".")[-2]
    if not name.startswith("__"):
        name = name.rstrip("_")
    return _SYNONYMS.get(name, name)


def nonlinearity(
    name: str, args: tuple, kwargs: Mapping[str, Any]
) -> tuple[str, float | None] | None:
    """The nonlinearity that a call is and the argument that shapes it; None for the others."""
    lower = kwargs.get("min_val", kwargs.get("min", args[1] if len(args) > 1 else None))
    if name in ("clamp", "clamp_min") and isinstance(lower, int | float) and lower == 0:
        return ("relu", None) if len(args) < 3 and kwargs.get("max") is None else None
    if name not in ACTIVATIONS:
        return None
    if name == "hardtanh" and lower == 0:
        return "relu6", None  # nn.ReLU6 calls hardtanh(0, 6)
    keyword = ACTIVATIONS[name]
    value = kwargs.get(keyword, args[1] if len(args) > 1 else None) if keyword else None
    return name, float(value) if isinstance(value, int | float) else None


def gate(name: str, factor: float, before: str) -> str | None:
    """What f is in x·f(x), for a function that meets `factor`·x after `before`; None for others."""
    if name == "tanh" and before == "softplus":
        return "tanh of softplus"
    if name == "sigmoid" and abs(factor - 1.702) < 0.01:
        return "quick sigmoid"
    return name if name in _SELF_GATED or name == "softplus" else None


def self_gated(gate: str) -> str | None:
    """The functional that x·f(x) spells out: `silu` for the sigmoid."""
    return _SELF_GATED.get(gate)


def scalar_factor(name: str, args: tuple) -> float:
    """By what a call multiplies its tensor; 1 where that is not one number."""
    numbers = [value for value in args if isinstance(value, int | float)]
    if len(args) != 2 or len(numbers) != 1:
        return 1.0
    if name in MULTIPLICATIONS:
        return float(numbers[0])
    if name in _DIVISIONS and numbers[0] and args[1] is numbers[0]:
        return 1.0 / numbers[0]
    return 1.0
