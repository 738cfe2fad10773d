"""Looks-linear pairs: units that mirror one another, in chains of plain layers.

Of a ReLU layer and of its like, f(z) − f(−z) is a multiple of z. If every unit has a twin of the
opposite weights, and the next layer takes the two with opposite signs, the chain computes at first
what a chain of linear layers does: with orthogonal matrices a signal, and a gradient, keep their
length through any depth and for every input, where independent values stray by 5/width a layer
(Balduzzi et al. 2017, "The shattered gradients problem", section 4). Twins see different samples
from the first step on and go apart.

It needs proof that one layer takes what the other gives and nobody else does
(`lampwork.taps.feeds`), so normalised and residual networks are not touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lampwork.init.defaults import Choice, gain_before, is_narrow
from lampwork.init.registry import Scheme
from lampwork.init.survey import Site
from lampwork.taps.trace import Feed, Use

_SHORTEST = 5
"""Layers of a chain from which on it is worth it: with fewer no scheme did better than another."""

Chosen = tuple[Site, Use, Choice | None]


def paired(chosen: Sequence[Chosen], feeds: Mapping[str, Feed]) -> dict[int, Choice]:
    """For each site that gets pairs, by its place among the chosen, its new choice.

    Args:
        chosen: every tensor of the model, what its layer's output meets, and what it would get.
        feeds: by any name of a weight, what its layer takes.
    """
    places = {name: place for place, one in enumerate(chosen) for name in one[0].names}
    fit = {place for place, one in enumerate(chosen) if _is_fit(*one)}
    into: dict[int, tuple[int, Feed]] = {}
    unfit: set[int] = set()
    for name, feed in feeds.items():
        taker, source = places[name], places[feed.source]
        is_one = {taker, source} <= fit and feed.alone and _slope(feed)
        if is_one and _match(chosen[source][0], chosen[taker][0]):
            into[taker] = (source, feed)
        else:
            unfit.add(source)
    into = {taker: way for taker, way in into.items() if way[0] not in unfit}
    lengths = _lengths(into)
    return {
        place: _choice(chosen[place], feed and feed[1], gives=place in sources, layers=layers)
        for sources in [{source for source, _ in into.values()}]
        for place, layers in lengths.items()
        if layers >= _SHORTEST
        for feed in [into.get(place)]
    }


def _slope(feed: Feed) -> float | None:
    """The s with f(z) − f(−z) = s·z; None where the difference is not linear."""
    if feed.nonlinearity == "leaky_relu":
        return 1.0 + (0.01 if feed.param is None else feed.param)
    return 1.0 if feed.nonlinearity in _LINEAR else None


_LINEAR = ("gelu", "hardswish", "relu", "silu", "softplus")


def _is_fit(site: Site, use: Use, choice: Choice | None) -> bool:
    """Whether the default decides for it, and it is the one matrix of a plain layer."""
    return (
        choice is not None
        and choice.chosen_by == "default"
        and choice.scheme in ("orthogonal", "kaiming_normal")
        and site.attribute == "weight"
        and isinstance(site.module, nn.Linear | _ConvNd)
        and not isinstance(site.module, _ConvTransposeNd)
        and len(site.owners) == 1
        and not use.residual
        and is_narrow(site)
    )


def _match(gives: Site, takes: Site) -> bool:
    """Whether both see the same units along the same dimension, and groups do not part a pair."""
    groups, others = (site.kind.parts[0] if site.kind.parts else 1 for site in (gives, takes))
    units = gives.shape[0]
    return (
        isinstance(gives.module, nn.Linear) == isinstance(takes.module, nn.Linear)
        and len(gives.shape) == len(takes.shape)
        and units == takes.shape[1] * others
        and (groups == 1 or units // groups % 2 == 0)
        and (others == 1 or units // others % 2 == 0)
    )


def _lengths(into: Mapping[int, tuple[int, Feed]]) -> dict[int, int]:
    """Of each layer, how many lie on the longest chain through it."""
    out: dict[int, list[int]] = {}
    for taker, (source, _) in into.items():
        out.setdefault(source, []).append(taker)
    roots = [source for source in out if source not in into]
    order, before = list(roots), dict.fromkeys(roots, 1)
    for place in order:  # grows while it is gone through
        for taker in out.get(place, ()):
            before[taker] = before[place] + 1
            order.append(taker)
    after: dict[int, int] = {}
    for place in reversed(order):
        after[place] = max((after[taker] + 1 for taker in out.get(place, ())), default=0)
    return {place: before[place] + after[place] for place in order}


def _choice(chosen: Chosen, feed: Feed | None, *, gives: bool, layers: int) -> Choice:
    site, use, before = chosen
    assert before is not None
    own = Feed("", use.nonlinearity, use.param)
    factor = math.sqrt(2.0) if _slope(own) else gain_before(use)
    factor /= (_slope(feed) or 1.0) if feed else 1.0
    options = {"gain": factor, "pairs_in": feed is not None, "pairs_out": gives}
    # Images keep their length where each pixel does; a stride would skip pixels, and the first
    # layer has no other features than its taps.
    module = site.module
    is_delta = feed is not None and isinstance(module, _ConvNd) and {*module.stride} == {1}
    options |= {"delta": True} if is_delta else {}
    met = before.reason.partition(":")[0]
    reason = (
        f"{met}: looks-linear{' delta' if is_delta else ''}, fan_in, gain {factor:.3f}, "
        f"in a chain of {layers} plain layers"
    )
    return Choice(Scheme("looks_linear", options), reason)
