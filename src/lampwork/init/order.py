"""Which nonlinearity follows which layer, guessed from the order in which modules were registered.

A guess, for models of which no example is at hand: from each layer on, the next activation module
counts, looking through normalisation, dropout, pooling, flattening and identities. A function
called in `forward` cannot be seen; `lampwork.taps.trace` sees it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _LPPoolNd,
    _MaxPoolNd,
)

from lampwork.init.fans import NORMS
from lampwork.taps.trace import Feed, Use

# The functional's name, and the attribute that shapes it.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, str | None]] = {
    nn.CELU: ("celu", "alpha"),
    nn.ELU: ("elu", "alpha"),
    nn.GELU: ("gelu", None),
    nn.Hardshrink: ("hardshrink", None),
    nn.Hardsigmoid: ("hardsigmoid", None),
    nn.Hardswish: ("hardswish", None),
    nn.Hardtanh: ("hardtanh", None),
    nn.LeakyReLU: ("leaky_relu", "negative_slope"),
    nn.LogSigmoid: ("logsigmoid", None),
    nn.Mish: ("mish", None),
    nn.PReLU: ("prelu", None),
    nn.ReLU: ("relu", None),
    nn.ReLU6: ("relu6", None),
    nn.RReLU: ("rrelu", None),
    nn.SELU: ("selu", None),
    nn.Sigmoid: ("sigmoid", None),
    nn.SiLU: ("silu", None),
    nn.Softplus: ("softplus", "beta"),
    nn.Softshrink: ("softshrink", None),
    nn.Softsign: ("softsign", None),
    nn.Tanh: ("tanh", None),
    nn.Tanhshrink: ("tanhshrink", None),
}
_LOOKED_THROUGH = (
    *NORMS,
    _DropoutNd,
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _LPPoolNd,
    _MaxPoolNd,
    nn.ChannelShuffle,
    nn.Flatten,
    nn.Identity,
    nn.LocalResponseNorm,
    nn.PixelShuffle,
    nn.Unflatten,
    nn.Upsample,
)


def following(model: nn.Module) -> dict[nn.Module, Use]:
    """For each module without children, what its output meets next in order of registration."""
    uses: dict[nn.Module, Use] = {}
    after = Use()
    # Backwards, so that of a module that stands in several places the first place counts.
    for module in reversed(list(_leaves(model))):
        uses[module] = after
        if not isinstance(module, _LOOKED_THROUGH):
            after = _activation(module) or Use()
    return uses


def chained(model: nn.Module) -> dict[str, Feed]:
    """Which layer feeds which through an activation alone, within an `nn.Sequential`.

    By the name of the weight of the layer that takes; as `Trace.feeds`, without an example.
    """
    counts = Counter(id(module) for module in _leaves(model))
    names = {id(m): name for name, m in model.named_modules()}
    feeds: dict[str, Feed] = {}
    for module in model.modules():
        if type(module) is not nn.Sequential:
            continue
        source: str | None = None
        met: Use | None = None
        for part in _in_line(module):
            activation = _activation(part)
            if isinstance(part, nn.Linear | _ConvNd) and counts[id(part)] == 1:
                name = f"{names[id(part)]}.weight".removeprefix(".")
                if source and met:
                    feeds[name] = Feed(source, met.nonlinearity, met.param)
                source, met = name, None
            elif activation and source and not met:
                met = activation
            elif not isinstance(part, nn.Identity | _DropoutNd):
                source = met = None
    return feeds


def _in_line(module: nn.Module) -> Iterator[nn.Module]:
    """What a sequence calls one after the other, sequences in it opened."""
    for part in module.children():
        yield from _in_line(part) if type(part) is nn.Sequential else (part,)


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """Modules without children, a shared one as often as it stands in the model."""
    # A parametrised layer is a leaf still: what hangs below it computes its weight.
    children = [m for name, m in module._modules.items() if m and name != "parametrizations"]
    if not children:
        yield module
    for child in children:
        yield from _leaves(child)


def _activation(module: nn.Module) -> Use | None:
    for base in type(module).__mro__:
        if base in _ACTIVATIONS:
            name, attribute = _ACTIVATIONS[base]
            return Use(name, getattr(module, attribute) if attribute else None)
    return None
