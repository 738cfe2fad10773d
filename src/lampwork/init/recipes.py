"""Recipes: how the papers and reference codes of a whole family initialise it.

A recipe decides what its source decides and leaves the rest to the defaults. What it scales by
depth or position it takes from the forward pass; where that tells nothing it refuses rather than
silently be another recipe.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from lampwork._core.errors import InputError
from lampwork.init.defaults import WEIGHTS, Choice
from lampwork.init.gains import gain
from lampwork.init.registry import Scheme
from lampwork.init.survey import Site
from lampwork.taps.trace import Branch, Trace, Use


@dataclass(frozen=True)
class Subject:
    """One tensor as a recipe sees it.

    Attributes:
        site: what it is.
        use: what its layer's output meets.
        branch: the residual branch that its layer is in, if any.
        branches: how many residual branches there are in the stack that it belongs to.
        ends: whether nothing takes the layer's output any more.
    """

    site: Site
    use: Use
    branch: Branch | None
    branches: int
    ends: bool


def subject(site: Site, use: Use, trace: Trace) -> Subject:
    """The tensor with what the forward pass told of its surroundings."""
    own = [branch for branch in trace.branches if not branch.members.isdisjoint(site.names)]
    stack = _stack(site.name)
    beside = [b for b in trace.branches if any(_stack(name) == stack for name in b.closing)]
    ends = any(trace.places[name].ends for name in site.names if name in trace.places)
    return Subject(site, use, own[0] if own else None, len(beside), ends)


def _stack(name: str) -> str:
    """What comes before the first number of a name: encoder and decoder are two stacks."""
    return re.split(r"(?:^|\.)\d+(?:\.|$)", name, maxsplit=1)[0]


def _gpt2(it: Subject) -> Choice | None:
    """Radford et al. 2019: N(0, 0.02²), and 0.02/√N where one of N residual branches is closed."""
    if it.site.kind.role in WEIGHTS and it.use.residual:
        reason = f"closes one of {it.branches} residual branches: 0.02/√{it.branches}"
        return Choice(_normal(0.02 / math.sqrt(it.branches)), reason)
    if it.site.kind.role in (*WEIGHTS, "embedding"):
        return Choice(_normal(0.02), "GPT-2: N(0, 0.02²)")
    return None


def _bert(it: Subject) -> Choice | None:
    """Devlin et al. 2018: truncated normal of 0.02 for weights and embeddings."""
    if it.site.kind.role in (*WEIGHTS, "embedding"):
        return Choice(_truncated(0.02), "BERT: truncated normal of 0.02")
    return None


def _vit(it: Subject) -> Choice | None:
    """Dosovitskiy et al. 2020 as in timm: truncated normal of 0.02, LeCun for the patches."""
    if it.site.kind.role == "convolution":
        return Choice(Scheme("lecun_normal"), "ViT: patches by LeCun")
    if it.site.attribute == "cls_token":
        return Choice(_normal(1e-6), "ViT: a class token near 0")
    if it.site.kind.role in (*WEIGHTS, "embedding"):
        return Choice(_truncated(0.02), "ViT: truncated normal of 0.02")
    return None


def _resnet(it: Subject) -> Choice | None:
    """He et al. 2015 with fan_out; Goyal et al. 2017: γ=0 closes a branch, N(0, 0.01²) the head."""
    if it.site.kind.role in ("convolution", "transposed"):
        options = {"mode": "fan_out", "nonlinearity": "relu"}
        return Choice(Scheme("kaiming_normal", options), "ResNet: He, fan_out")
    if it.site.kind.role == "norm" and it.use.residual and it.site.attribute == "weight":
        return Choice(
            Scheme("zeros"), "closes a residual branch: γ=0, the block starts as identity"
        )
    if it.site.kind.role in WEIGHTS:
        return Choice(_normal(0.01), "ResNet: N(0, 0.01²) for the classifier")
    return None


def _mup(it: Subject) -> Choice | None:
    """Yang et al. 2021, table 3: variance 1/fan_in, of the readout 1/fan_in², of tokens 1."""
    kind = it.site.kind
    if kind.role == "embedding":
        if it.site.tied:
            raise InputError(
                f"'mup' scales embedding and readout differently, {it.site.name!r} is both "
                f"({', '.join(it.site.tied)}): untie them, or give it a rule"
            )
        return Choice(_normal(1.0), "muP: input, variance 1; Adam's learning rate as it is")
    if kind.role not in WEIGHTS or not kind.fan_in:
        return None
    if it.ends:
        return Choice(_normal(1.0 / kind.fan_in), "muP: readout, 1/fan_in; Adam's rate ∝ 1/fan_in")
    factor = gain(it.use.nonlinearity, it.use.param)
    std = factor / math.sqrt(kind.fan_in)
    return Choice(_normal(std), f"muP: hidden, gain {factor:.3f}/√fan_in; Adam's rate ∝ 1/fan_in")


def _fixup(it: Subject) -> Choice | None:
    """Zhang et al. 2019: branches start at 0, and their other layers are scaled down by depth."""
    if it.site.kind.role not in WEIGHTS:
        return None
    if it.use.residual or (it.ends and not it.branch):
        what = "closes a residual branch" if it.use.residual else "classifier"
        return Choice(Scheme("zeros"), f"Fixup: {what}, starts at 0")
    if not it.branch or it.branch.layers < 2 or not it.site.kind.fan_in:
        return None
    count, layers = it.branches, it.branch.layers
    factor = count ** (-1.0 / (2 * layers - 2))
    std = factor * gain(it.use.nonlinearity, it.use.param) / math.sqrt(it.site.kind.fan_in)
    reason = f"Fixup: {layers} layers in each of {count} branches: {factor:.3f} of its gain"
    return Choice(_normal(std), reason)


RECIPES: Mapping[str, Callable[[Subject], Choice | None]] = {
    "bert": _bert,
    "fixup": _fixup,
    "gpt2": _gpt2,
    "mup": _mup,
    "resnet": _resnet,
    "vit": _vit,
}

# What a recipe must know of the model, or it would silently be another one.
_BRANCHES, _READOUT = "closes a residual branch", "is the readout"
_NEEDS = {"fixup": _BRANCHES, "gpt2": _BRANCHES, "resnet": _BRANCHES, "mup": _READOUT}


def require_told(recipe: str, model: nn.Module, trace: Trace, *, has_example: bool) -> None:
    """Refuses a recipe that scales what the forward pass did not find.

    Raises:
        InputError: no residual branch was found, or no readout.
    """
    what = _NEEDS.get(recipe)
    readouts = any(place.ends for place in trace.places.values())
    tied = recipe == "mup" and has_example  # a tied readout is refused by its name
    if what is None or (trace.branches if what == _BRANCHES else readouts or tied):
        return
    cure = (
        f"{type(model).__name__} has none: choose another scheme"
        if has_example
        else f"pass an example, plan(model, example, scheme={recipe!r})"
    )
    raise InputError(
        f"{recipe!r} depends on which layer {what}, which the forward pass on an example tells, "
        f"and none is known: {cure}"
    )


def _normal(std: float) -> Scheme:
    return Scheme("normal", {"mean": 0.0, "std": std})


def _truncated(std: float) -> Scheme:
    return Scheme("trunc_normal", {"std": std})
