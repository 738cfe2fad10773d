"""For those who know the idiom: a function for `Module.apply`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from lampwork.init.apply import require_writable, write
from lampwork.init.defaults import WEIGHTS
from lampwork.init.registry import KEEP, Scheme, parse
from lampwork.init.survey import Site, sites_of


def layerwise(scheme: Any, *, bias: float = 0.0, **options: Any) -> Callable[[nn.Module], None]:
    """A function that initialises one layer, for `model.apply(layerwise("kaiming_normal"))`.

    It writes what it knows by the layer's type and nothing else: weights of linear, bilinear,
    convolutional, transposed, recurrent and attention layers by the scheme with their true fans,
    biases of these layers `bias`, the scale of a normalisation 1 and its shift 0. Embeddings,
    buffers and parameters of unknown modules stay as they are. Torch's global CPU
    generator (`torch.manual_seed`) chooses the stream that a tensor is drawn from.

    Args:
        scheme: a name such as `"normal"`.
        bias: the constant for biases.
        **options: the scheme's own, e.g. `std=0.02`.

    Raises:
        InputError: an unknown scheme or option; from the function, a layer on meta.
    """
    chosen = parse((scheme, options) if options else scheme)
    constant = parse(("constant", {"val": bias}))

    def initialise(module: nn.Module) -> None:
        known = [site for _, site in sites_of(module)]
        has_weight = any(site.kind.role in WEIGHTS for site in known)
        for site in known:
            wanted = _wanted(site, chosen, constant if has_weight else KEEP)
            if wanted != KEEP:
                require_writable(site, wanted)
                fans = (site.kind.fan_in, site.kind.fan_out)
                write(site, wanted, None, fans, site.kind.parts)

    return initialise


def _wanted(site: Site, scheme: Scheme, bias: Scheme) -> Scheme:
    if site.kind.role in WEIGHTS:
        return scheme
    if site.kind.role == "norm":
        return Scheme("ones" if site.attribute == "weight" else "zeros")
    return bias if site.kind.role == "bias" else KEEP
