"""What a trace tells: what consumes a layer, what parameters do, which residual branches close."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lampwork.taps.place import Place


@dataclass(frozen=True)
class Use:
    """What becomes of a layer's output.

    Attributes:
        nonlinearity: the torch functional's name, `"linear"` where none was met.
        param: the argument that shapes it, e.g. the slope of `leaky_relu`; None where it has none.
        residual: whether the output closes a residual branch.
    """

    nonlinearity: str = "linear"
    param: float | None = None
    residual: bool = False


@dataclass(frozen=True)
class Branch:
    """A residual branch: what is computed of the signal and added to it.

    Attributes:
        closing: the weights whose output is added, with those of a normalisation after them.
        members: the weights of all its layers, the closing ones among them.
        layers: how many of them lie one behind the other.
    """

    closing: frozenset[str]
    members: frozenset[str]
    layers: int


@dataclass(frozen=True)
class Feed:
    """A layer takes what another gives, through one activation and nothing else.

    Attributes:
        source: the weight of the layer that gives.
        nonlinearity: the torch functional between them.
        param: the argument that shapes it; None where it has none.
        alone: whether nothing but such layers takes what the source gives.
    """

    source: str
    nonlinearity: str
    param: float | None = None
    alone: bool = True


@dataclass(frozen=True)
class Trace:
    """What one forward pass told.

    Attributes:
        uses: name of the parameter → its use, for every parameter of two or more dimensions that
            a layer's function took, and for those of a normalisation that closes a branch.
        places: name of the parameter → what it does, for every parameter that the pass met.
        branches: the residual branches in the order in which they were closed.
        feeds: name of a weight → what its layer takes, where that is nothing but another layer's
            output through an activation.
    """

    uses: Mapping[str, Use]
    places: Mapping[str, Place]
    branches: tuple[Branch, ...] = ()
    feeds: Mapping[str, Feed] = field(default_factory=dict)
