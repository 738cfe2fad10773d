"""Planning: what there is, what it meets, what a rule, a recipe or the default gives it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lampwork._core.errors import InputError
from lampwork.init.apply import require_type
from lampwork.init.defaults import WEIGHTS, Choice, choose
from lampwork.init.fans import RECURRENT, matrix_shape, of_shape
from lampwork.init.fitting import is_layer
from lampwork.init.order import chained, following
from lampwork.init.pairing import Chosen, paired
from lampwork.init.plan import Plan, Row
from lampwork.init.recipes import RECIPES, require_told, subject
from lampwork.init.registry import KEEP, LSUV, NAMES, Scheme, expected_std, fans_used, parse
from lampwork.init.roles import told
from lampwork.init.rules import Match, matching, read
from lampwork.init.survey import Site, survey
from lampwork.taps.place import Place
from lampwork.taps.trace import Trace, Use, trace


def plan(
    model: nn.Module, example: Any = None, *, scheme: Any = "auto", rules: Iterable[Any] = ()
) -> Plan:
    """Plans the first values of every parameter; nothing is written before `Plan.apply`.

    `"auto"` gives weights the variance gain²/fan_in with their true fan_in and the gain of the
    nonlinearity that consumes them: linear layers up to a side of 1024 as orthogonal matrices, in
    which a signal strays less over depth, others N(0, gain²/fan_in); before tanh and its like at
    the edge of chaos. Five or more linear or convolutional layers that feed one another through
    ReLU, GELU, SiLU or their like alone become a looks-linear chain: units in mirrored pairs, in
    which a signal keeps its length exactly (see `schemes.looks_linear_`).
    With an example one forward pass tells which that is, and which layers close a residual branch;
    without one it is guessed from the order in which modules were registered, and `residual` is
    False throughout. LSTM, GRU and attention go by type. Biases get 0 (the forget gate of an LSTM
    1), normalisation scale 1 and shift 0, embeddings N(0, 0.02²) with a zero padding row. Buffers
    and frozen parameters (`requires_grad` False) keep their values. Parameters of modules that
    nobody knows get what the forward pass tells: the matrix of a product, an expert, a scale, a
    token.

    Args:
        model: any module, also one on meta; parametrised and shared weights are understood.
        example: a tensor, a tuple (positional) or a dict (keyword) as the model takes them.
        scheme: `"auto"`, or a name or `(name, options)` for every weight of a linear,
            convolutional, recurrent or attention layer. Embeddings, norms and biases keep their
            defaults then too, unless a rule names them. Or a recipe for a whole family:
            `"gpt2"`, `"bert"`, `"vit"`, `"resnet"`, `"mup"`, `"fixup"`. Or `"lsuv"`: orthogonal,
            and when the plan is applied scaled on the example, a batch of real data, see `lsuv`.
        rules: `(glob, scheme)` pairs over dotted names, or `Rule`s by module type or role; the
            last match wins, and the reason tells over which. `"keep"` leaves a tensor alone.
            Buffers are meant only where a rule matches nothing else.

    Raises:
        InputError: an unknown scheme or option, a parameter that neither a rule nor a default
            covers, a lazy parameter, or an example that does not run.
        NameNotFound: a rule that matches nothing.
    """
    return planned(model, example, scheme, rules)


def planned(
    model: nn.Module,
    example: Any,
    scheme: Any,
    rules: Iterable[Any],
    *,
    loaded: Iterable[str] = (),
) -> Plan:
    """As `plan`; what bears one of the names that are loaded keeps its values but for a rule."""
    whole = parse(scheme, known=("auto", *RECIPES, *NAMES, LSUV))
    surveyed = survey(model)  # before the pass: it would give lazy modules their shapes
    traced = Trace({}, {}) if example is None else trace(model, example)
    sites = [told(site, _place(site, traced)) for site in surveyed]
    checked = read(rules, sites)
    if _is_recipe(whole):
        require_told(whole, model, traced, has_example=example is not None)
    guessed = following(model)
    chosen: list[Chosen] = []
    kept = frozenset(loaded)
    for site in sites:
        use, source = _use(site, traced.uses, guessed)
        choice = (
            Choice(KEEP, "loaded from a checkpoint")
            if not kept.isdisjoint(site.names) and not matching(checked, site)
            else _choose(site, whole, checked, use, source, traced)
        )
        chosen.append((site, use, choice))
    pairs = paired(chosen, chained(model) if example is None else traced.feeds)
    rows: list[Row] = []
    uncovered: list[Site] = []
    for number, (site, use, choice) in enumerate(chosen):
        if choice is None:
            uncovered.append(site)
        else:
            rows.append(_row(site, use, pairs.get(number, choice), _place(site, traced)))
    _require_none(uncovered, has_example=example is not None)
    fitted = [row for row in rows if row.scheme == LSUV]
    if fitted and example is None:
        raise InputError(
            f"scheme 'lsuv' scales {fitted[0].name!r} on data: pass a batch of real data as example"
        )
    return Plan(model, rows, example if fitted else None)


def _is_recipe(whole: Scheme) -> bool:
    """A recipe takes no options; with options its name is that of a scheme, if of anything."""
    return whole in RECIPES and not whole.options


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
    site: Site, whole: Scheme, rules: Sequence[Match], use: Use, source: str, traced: Trace
) -> Choice | None:
    speaking = matching(rules, site)
    if speaking:
        *over, last = [str(match.rule) for match in speaking]
        reason = f"{last}, over {', '.join(over)}" if over else last
        return Choice(speaking[-1].scheme, reason, "rule")
    is_frozen = not site.stored.requires_grad
    if _is_recipe(whole) and not is_frozen:
        choice = RECIPES[whole](subject(site, use, traced))
        if choice:
            return choice._replace(chosen_by="scheme")
    elif whole == LSUV and site.kind.role in WEIGHTS and not is_frozen and not is_layer(site):
        reason = "orthogonal: LSUV scales linear and convolutional layers"
        return Choice(Scheme("orthogonal"), reason, "scheme")
    elif whole != "auto" and site.kind.role in WEIGHTS and not is_frozen:
        return Choice(whole, "the scheme for every weight", "scheme")
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
    if scheme == LSUV and not is_layer(site):
        raise InputError(
            f"scheme 'lsuv' scales the weights of linear and convolutional layers, {site.name!r} "
            f"is {site.kind.role} of {type(site.module).__name__}: give it another scheme"
        )
    _require_dense(site, scheme)
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
        chosen_by=choice.chosen_by,
    )


def _std(site: Site, scheme: Scheme, fan_in: float | None, fan_out: float | None) -> float | None:
    shape = site.shape
    try:
        return expected_std(
            scheme, matrix_shape(shape, site.kind.parts), fan_in=fan_in, fan_out=fan_out
        )
    except InputError as error:
        raise InputError(f"{site.name!r}: {error}") from error


def _require_dense(site: Site, scheme: Scheme) -> None:
    layout = site.stored.layout
    if scheme != KEEP and layout != torch.strided:
        raise InputError(
            f"{site.name!r} is stored as {layout}, {scheme} writes dense values: give the rule "
            f"({site.name!r}, 'keep') and fill it yourself"
        )


def _require_none(uncovered: Sequence[Site], *, has_example: bool) -> None:
    if not uncovered:
        return
    first = uncovered[0]
    example = "" if has_example else "pass an example, whose forward pass may tell, or "
    names = ", ".join(f"{site.name!r} {tuple(site.shape)}" for site in uncovered)
    raise InputError(
        f"no default covers {names}: {type(first.module).__name__} is not a layer that lampwork "
        f"knows: {example}give a rule, e.g. rules=[({first.name!r}, ('normal', {{'std': 0.02}}))], "
        f"or ({first.name!r}, 'keep') to leave it"
    )
