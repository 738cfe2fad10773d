"""Schemes by name: what a user writes, `"kaiming_normal"` or `("normal", {"std": 0.02})`, read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from lampwork._core.errors import InputError
from lampwork._core.names import nearest
from lampwork.init import schemes, spread
from lampwork.init.variance import Source

_FILL: dict[str, Callable[..., Tensor]] = {
    name.rstrip("_"): getattr(schemes, name) for name in schemes.__all__ if name.endswith("_")
}
_SPREAD: dict[str, Callable[..., float]] = {
    "zeros": spread.constant,
    "ones": spread.constant,
    "constant": spread.constant,
    "normal": spread.normal,
    "uniform": spread.uniform,
    "trunc_normal": spread.trunc_normal,
    "xavier_uniform": spread.xavier,
    "xavier_normal": spread.xavier,
    "kaiming_uniform": spread.kaiming,
    "kaiming_normal": spread.kaiming,
    "lecun_normal": spread.lecun,
    "lecun_uniform": spread.lecun,
    "embedding": spread.embedding,
    "gpt2_residual": spread.gpt2_residual,
    "fixup_branch": spread.fixup,
    "mup_weight": spread.mup,
    "siren": spread.siren,
    "orthogonal": spread.orthogonal,
    "delta_orthogonal": spread.delta_orthogonal,
    "looks_linear": spread.looks_linear,
    "dirac": spread.dirac,
    "identity": spread.identity,
    "sparse": spread.sparse,
    "lstm_bias": spread.lstm_bias,
}
# Their values depend on one another: of stacked matrices each is filled on its own.
_MATRIX = (
    "orthogonal",
    "lsuv",
    "looks_linear",
    "delta_orthogonal",
    "dirac",
    "identity",
    "sparse",
    "lstm_bias",
)
_OF_FAN_IN = ("lecun_normal", "lecun_uniform", "fixup_branch", "mup_weight", "siren")
# Not options: they belong to the tensor at hand.
_GIVEN = ("tensor", "generator")

NAMES = ("keep", *_FILL)


class Scheme(str):
    """A scheme's name with its options: `Scheme("normal", {"std": 0.02})`. Never changes.

    It is its name, so that `row.scheme == "normal"` reads as one would write it.
    """

    _items: tuple[tuple[str, Any], ...]

    def __new__(cls, name: str, options: Mapping[str, Any] | None = None) -> Scheme:
        """A scheme from its checked parts; `parse` reads what a user wrote."""
        scheme = super().__new__(cls, name)
        scheme._items = tuple((options or {}).items())
        return scheme

    def __reduce__(self) -> tuple[type[Scheme], tuple[str, dict[str, Any]]]:
        return Scheme, (str(self), self.options)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments beside the tensor, by name; a copy."""
        return dict(self._items)


KEEP = Scheme("keep")
"""Leaves the tensor alone."""

UNFILLED = Scheme("unfilled")
"""Stands in a plan for a buffer on meta that only the model's own code can compute."""

LSUV = Scheme("lsuv")
"""Orthogonal, then scaled on the example: of layers in a plan, not of a tensor at hand."""

PLANNED = (*NAMES, UNFILLED, LSUV)
"""Every name that a row of a plan may hold."""


def parse(spec: Any, *, known: tuple[str, ...] = NAMES) -> Scheme:
    """The scheme that a user means.

    Args:
        spec: a name, or a pair of a name and a dict of options.
        known: the names that may be meant.

    Raises:
        InputError: neither, an unknown name (lists the known and the nearest), or options that
            the scheme does not take (lists those it does).
    """
    name, options = spec, spec.options if isinstance(spec, Scheme) else {}
    if isinstance(spec, tuple | list) and len(spec) == 2:
        name, options = spec
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise InputError(
            f"{spec!r} is not a scheme: pass a name such as 'kaiming_normal', or a pair such as "
            "('normal', {'std': 0.02})"
        )
    if name not in known:
        near = nearest(name, known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"there is no scheme {name!r}: {hint}Known: {', '.join(known)}")
    _require_options(name, options)
    return Scheme(str(name), options)


def fans_used(scheme: Scheme) -> tuple[str, ...]:
    """Which fans the scheme's variance depends on."""
    if scheme.startswith("xavier"):
        return "fan_in", "fan_out"
    if scheme.startswith("kaiming"):
        return (scheme.options.get("mode", "fan_in"),)
    return ("fan_in",) if scheme in _OF_FAN_IN and scheme.options.get("part") != "input" else ()


def is_of_matrix(scheme: Scheme) -> bool:
    """Whether the scheme has to see a whole matrix; all others fill value by value."""
    return scheme in _MATRIX


def fill(
    scheme: Scheme,
    tensor: Tensor,
    generator: Source,
    *,
    fan_in: float | None,
    fan_out: float | None,
) -> None:
    """Fills a tensor in place, with the true fans where the scheme uses them; not for `keep`."""
    function = schemes.orthogonal_ if scheme == LSUV else _FILL[scheme]
    given = {"generator": generator, "fan_in": fan_in, "fan_out": fan_out}
    function(tensor, **(_taken(function, given) | scheme.options))


def expected_std(
    scheme: Scheme, shape: Sequence[int], *, fan_in: float | None, fan_out: float | None
) -> float | None:
    """The standard deviation that the values will have; None where they are kept, or data decides.

    Args:
        scheme: what fills the tensor.
        shape: of one part where several matrices are stacked.
        fan_in: the true one, None where unknown.
        fan_out: the true one, None where unknown.

    Raises:
        InputError: options or a shape that the scheme cannot be asked.
    """
    if scheme in (KEEP, UNFILLED, LSUV):
        return None
    function = _SPREAD[scheme]
    fans = _taken(function, {"fan_in": fan_in, "fan_out": fan_out})
    return function(shape, **(fans | scheme.options))


def _taken(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    takes = inspect.signature(function).parameters
    return {key: value for key, value in given.items() if key in takes}


def _require_options(name: str, options: Mapping[str, Any]) -> None:
    takes = inspect.signature(_FILL[name]).parameters if name in _FILL else {}
    valid = [key for key in takes if key not in _GIVEN]
    for key in options:
        if key not in valid:
            listed = ", ".join(valid) or "none"
            raise InputError(f"scheme {name!r} takes no option {key!r}: its options are {listed}")
    missing = [k for k in valid if takes[k].default is inspect.Parameter.empty and k not in options]
    if missing:
        raise InputError(
            f"scheme {name!r} needs the option {missing[0]!r}: "
            f"pass ({name!r}, {{{missing[0]!r}: …}})"
        )
