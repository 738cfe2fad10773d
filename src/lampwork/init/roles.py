"""What a parameter is that its module's type does not explain: by what it does, or by its name.

`lampwork.init.fans` knows torch's layers. Everything else, a normalisation of one's own, experts
in one tensor, a class token, is told by the forward pass on the example (`lampwork.taps.place`).
Without an example only what has no fans is guessed, from names; a matrix is not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from lampwork.init.fans import Kind
from lampwork.init.survey import Site
from lampwork.taps.place import Place

_TOKEN = re.compile(r"token|pos|query|queries|prompt|latent|embed", re.IGNORECASE)
_SCALE = re.compile(r"scale|gamma|lambda|alpha|^ls\d*$|^g$", re.IGNORECASE)
_SHIFT = re.compile(r"^(bias|beta|shift)", re.IGNORECASE)
_NORM = re.compile(r"norm|^ln", re.IGNORECASE)


def told(site: Site, place: Place | None) -> Site:
    """The site with the role and fans that the forward pass tells, and else its name.

    Args:
        site: from the survey.
        place: what the parameter does, None where no pass met it.
    """
    known = site.kind
    if known.role == "weight" and place and place.pieces > 1 and place.summed:
        kind = _matrix(site.shape, place)
    elif known.role != "other" or known.fan_in is not None or known.start is not None:
        return site
    else:
        kind = (place and _by_place(site, place)) or _by_name(site)
    return replace(site, kind=kind) if kind else site


def _by_place(site: Site, place: Place) -> Kind | None:
    match place.does:
        case "matrix":
            return _matrix(site.shape, place)
        case "convolution":
            taps = math.prod(site.shape[2:])
            return Kind("convolution", site.shape[1] * taps, site.shape[0] * taps)
        case "token" | "table":
            return Kind("embedding", 1, site.shape[-1])
        case "offset":
            return Kind("norm", start=0.0)
        case "scale":
            return _scale(site)
        case "shift":
            return Kind("bias")
    return None


def _matrix(shape: Sequence[int], place: Place) -> Kind | None:
    kept = [dim for dim in range(len(shape)) if dim not in (*place.summed, *place.stacked)]
    if place.stacked != tuple(range(len(place.stacked))) or not kept:
        return None
    fan_in = math.prod(shape[dim] for dim in place.summed)
    fan_out = math.prod(shape[dim] for dim in kept)
    parts = [0] * len(place.stacked)
    if place.pieces > 1 and len(kept) == 1:
        fan_out //= place.pieces
        parts += [place.pieces if dim == kept[0] else 1 for dim in range(len(parts), kept[0] + 1)]
    role = "expert" if place.stacked else "packed" if parts else "weight"
    return Kind(role, fan_in, fan_out, tuple(parts))


def _by_name(site: Site) -> Kind | None:
    is_vector = site.stored.numel() == max(site.shape, default=1)
    if is_vector and _NORM.search(type(site.module).__name__):
        if _SHIFT.search(site.attribute):
            return Kind("norm")
        return _scale(site)
    if is_vector and _SCALE.search(site.attribute):
        return _scale(site)
    if site.stored.is_floating_point() and len(site.shape) > 1 and _TOKEN.search(site.attribute):
        return Kind("embedding", 1, site.shape[-1])
    return None


def _scale(site: Site) -> Kind | None:
    """A scale starts at the constant that it was built with, that of a normalisation at 1."""
    is_norm = bool(_NORM.search(type(site.module).__name__))
    built = _constant(site.stored)
    if built is None and not site.stored.is_meta and not is_norm:
        return None
    return Kind("norm" if is_norm else "other", start=1.0 if built is None else built)


def _constant(stored: Tensor) -> float | None:
    """The one value that all elements have."""
    if stored.is_meta or not stored.numel() or not stored.is_floating_point():
        return None
    first = stored.detach().flatten()[0]
    return float(first) if bool((stored.detach() == first).all()) else None
