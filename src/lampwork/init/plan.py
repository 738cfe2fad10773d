"""The plan: for every tensor of a model what it is, what it gets and why. A plan is data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from lampwork._core.errors import InputError
from lampwork.init.apply import place, require_type, write_rows
from lampwork.init.defaults import WEIGHTS, Choice, choose
from lampwork.init.fans import RECURRENT, matrix_shape, of_shape
from lampwork.init.order import following
from lampwork.init.registry import (
    NAMES,
    PLANNED,
    Scheme,
    expected_std,
    fans_used,
    parse,
)
from lampwork.init.roles import told
from lampwork.init.rules import Rule, last_match, read
from lampwork.init.survey import Site, survey
from lampwork.init.table import table
from lampwork.taps.place import Place
from lampwork.taps.trace import Trace, Use, trace

_SCHEMA = 2


@dataclass(frozen=True)
class Row:
    """What one parameter or buffer is, and what it gets.

    Attributes:
        name: dotted name; of a shared tensor the first one, of a parametrised weight the layer's.
        shape: its shape.
        role: weight, bias, norm, embedding, recurrent, packed, convolution, transposed, expert,
            buffer or other.
        fan_in: weights that meet in one output unit, of one part where matrices are stacked;
            None where it has no meaning.
        fan_out: weights through which one input unit acts.
        nonlinearity: the torch functional that consumes the layer's output, or `"linear"`.
        residual: whether the layer closes a residual branch; only an example can tell.
        scheme: the scheme's name; its options are in `scheme.options`.
        std: the standard deviation that the values will have, None where they are kept.
        reason: why, in words.
        tied: the other names of the same tensor.
        depth: how many layers the signal has gone through behind this one, on the longest way;
            None where no example told.
        parts: into how many equal blocks each leading dimension falls that are matrices of their
            own, e.g. `(3,)` for q, k and v; 0 where every index has its matrix, as with experts.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    fan_in: float | None
    fan_out: float | None
    nonlinearity: str
    residual: bool
    scheme: Scheme
    std: float | None
    reason: str
    tied: tuple[str, ...]
    depth: int | None = None
    parts: tuple[int, ...] = ()


class Plan:
    """Rows, one per parameter and buffer, and the model they are for. `print(plan)` shows it."""

    def __init__(self, model: nn.Module, rows: Iterable[Row]) -> None:
        self.rows = list(rows)
        self._model = model

    def apply(self, *, seed: int = 0) -> None:
        """Writes the planned values into the model.

        The values of a parameter depend on the seed and on its name: not on the order of modules,
        other layers, the dtype, the device, the memory layout or torch's global random state. They
        are drawn in float32 on the CPU and cast. A shared tensor is written once. A frozen
        parameter (`requires_grad` False) is written too: a rule `keep` spares it. Parametrised
        weights are written through `right_inverse`. Rows may be exchanged before.

        Args:
            seed: any integer.

        Raises:
            InputError: a model whose names or shapes are no longer the plan's, a tensor on meta,
                a buffer that nothing fills, an integer or complex parameter, a parametrisation
                without an inverse. Nothing is written but in the last case.
        """
        write_rows(self.rows, self._model, seed)

    def to_json(self) -> str:
        """The rows as JSON text, without the model."""
        return json.dumps({"schema": _SCHEMA, "rows": [_item(row) for row in self.rows]}, indent=1)

    @classmethod
    def from_json(cls, text: str, model: nn.Module) -> Plan:
        """The plan that `to_json` wrote, for a model of the same names and shapes.

        Raises:
            InputError: text that is no plan, or a model whose names or shapes differ; names them.
        """
        try:
            content = json.loads(text)
            schema, items = content["schema"], content["rows"]
            rows = [_row_from(item) for item in items] if schema == _SCHEMA else []
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"the text is no plan ({type(error).__name__}: {error}): pass what to_json wrote"
            ) from error
        if schema != _SCHEMA:
            raise InputError(
                f"the plan is of schema {schema}, this lampwork reads {_SCHEMA}: plan again"
            )
        place(rows, model)
        return cls(model, rows)

    def __str__(self) -> str:
        return table(self.rows)

    def __repr__(self) -> str:
        return f"<Plan of {len(self.rows)} tensors of {type(self._model).__name__}>"


def plan(
    model: nn.Module, example: Any = None, *, scheme: Any = "auto", rules: Iterable[Any] = ()
) -> Plan:
    """Plans the first values of every parameter; nothing is written before `Plan.apply`.

    `"auto"` gives weights N(0, gain²/fan_in) with their true fan_in and the gain of the
    nonlinearity that consumes them. With an example one forward pass tells which that is, and
    which layers close a residual branch; without one it is guessed from the order in which
    modules were registered, and `residual` is False throughout. LSTM, GRU and attention go by
    type. Biases get 0 (the forget gate of an LSTM 1), normalisation scale 1 and shift 0,
    embeddings N(0, 0.02²) with a zero padding row. Buffers keep their values.

    Args:
        model: any module, also one on meta; parametrised and shared weights are understood.
        example: a tensor, a tuple (positional) or a dict (keyword) as the model takes them.
        scheme: `"auto"`, or a name or `(name, options)` for every weight of a linear,
            convolutional, recurrent or attention layer. Embeddings, norms and biases keep their
            defaults then too, unless a rule names them.
        rules: `(glob, scheme)` pairs over dotted names; the last match wins. `"keep"` leaves a
            tensor alone. Buffers are meant only where a glob matches nothing else.

    Raises:
        InputError: an unknown scheme or option, a parameter that neither a rule nor a default
            covers, a lazy parameter, or an example that does not run.
        NameNotFound: a rule that matches nothing.
    """
    traced = Trace({}, {}) if example is None else trace(model, example)
    sites = [told(site, _place(site, traced)) for site in survey(model)]
    whole = parse(scheme, known=("auto", *NAMES))
    parameters = [name for site in sites if not _is_buffer(site) for name in site.names]
    buffers = [name for site in sites if _is_buffer(site) for name in site.names]
    checked = read(rules, parameters, buffers)
    guessed = following(model)
    rows: list[Row] = []
    uncovered: list[Site] = []
    for site in sites:
        use, source = _use(site, traced.uses, guessed)
        choice = _choose(site, whole, checked, use, source)
        if choice is None:
            uncovered.append(site)
        else:
            rows.append(_row(site, use, choice, _place(site, traced)))
    _require_none(uncovered)
    return Plan(model, rows)


def _is_buffer(site: Site) -> bool:
    return site.kind.role == "buffer"


def _place(site: Site, traced: Trace) -> Place | None:
    return next((traced.places[name] for name in site.names if name in traced.places), None)


def _use(
    site: Site, traced: Mapping[str, Use], guessed: Mapping[nn.Module, Use]
) -> tuple[Use, str]:
    """What the layer's output meets, and how that is known. Biases and buffers have none."""
    if site.kind.role in ("bias", "buffer", "embedding") or site.attribute == "bias":
        return Use(), ""
    residual = any(traced[name].residual for name in site.names if name in traced)
    if isinstance(site.module, RECURRENT):
        inner = (
            "sigmoid"
            if site.kind.parts not in ((), (1,))
            else getattr(site.module, "nonlinearity", "linear")
        )
        return Use(inner, residual=residual), "by type"
    if site.kind.role == "norm":
        return Use(residual=residual), ""
    for name in site.names:
        if name in traced:
            return traced[name], "from one forward pass"
    if site.kind.role == "other":
        return Use(), ""
    unseen = ", the example's forward pass does not reach it" if traced else ""
    return guessed.get(site.module, Use()), f"guessed from module order{unseen}"


def _choose(
    site: Site, whole: Scheme, rules: Sequence[Rule], use: Use, source: str
) -> Choice | None:
    rule = last_match(rules, site.names, is_buffer=_is_buffer(site))
    if rule:
        return Choice(rule.scheme, f"rule {rule.glob!r}")
    if whole != "auto" and site.kind.role in WEIGHTS:
        return Choice(whole, "the scheme for every weight")
    return choose(site, use, source)


def _row(site: Site, use: Use, choice: Choice, place: Place | None) -> Row:
    scheme, shape, options = choice.scheme, site.shape, choice.scheme.options
    read_off = of_shape(shape) if site.kind.role == "other" and len(shape) == 2 else None
    fan_in, fan_out = read_off or (site.kind.fan_in, site.kind.fan_out)
    fan_in, fan_out = options.get("fan_in", fan_in), options.get("fan_out", fan_out)
    for which in fans_used(scheme):
        if (fan_in if which == "fan_in" else fan_out) is None:
            raise InputError(
                f"scheme {str(scheme)!r} needs the {which} of {site.name!r} {tuple(shape)}, which "
                f"its shape does not tell: pass ({str(scheme)!r}, {{{which!r}: …}}), or a scheme "
                "of fixed variance such as ('normal', {'std': 0.02})"
            )
    require_type(site, scheme)
    return Row(
        name=site.name,
        shape=tuple(shape),
        role=site.kind.role,
        fan_in=fan_in,
        fan_out=fan_out,
        nonlinearity=use.nonlinearity,
        residual=use.residual,
        scheme=scheme,
        std=_std(site, scheme, fan_in, fan_out),
        reason=choice.reason,
        tied=site.tied,
        depth=place.depth if place else None,
        parts=site.kind.parts,
    )


def _std(site: Site, scheme: Scheme, fan_in: float | None, fan_out: float | None) -> float | None:
    shape = site.shape
    try:
        return expected_std(
            scheme, matrix_shape(shape, site.kind.parts), fan_in=fan_in, fan_out=fan_out
        )
    except InputError as error:
        raise InputError(f"{site.name!r}: {error}") from error


def _require_none(uncovered: Sequence[Site]) -> None:
    if not uncovered:
        return
    first = uncovered[0]
    names = ", ".join(f"{site.name!r} {tuple(site.shape)}" for site in uncovered)
    raise InputError(
        f"no default covers {names}: {type(first.module).__name__} is not a layer that lampwork "
        f"knows: give a rule, e.g. rules=[({first.name!r}, ('normal', {{'std': 0.02}}))], or "
        f"({first.name!r}, 'keep') to leave it"
    )


def _item(row: Row) -> dict[str, Any]:
    scheme = parse(row.scheme, known=PLANNED)
    return {**dataclasses.asdict(row), "scheme": str(scheme), "options": scheme.options}


def _row_from(item: dict[str, Any]) -> Row:
    item = dict(item)
    scheme = parse((item.pop("scheme"), item.pop("options")), known=PLANNED)
    item |= {key: tuple(item[key]) for key in ("shape", "tied", "parts")}
    return Row(**item, scheme=scheme)
