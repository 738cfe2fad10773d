"""The proof: what the model holds, what one forward and one backward pass make of it.

Two kinds of evidence. The values at rest are held against the plan (`stored`) and against one
another (`duplicates`); the pass (`rehearsal`) tells what they do to signal, gradient and loss
(`signals`). A plan binds where it was applied, or where the user asked for a scheme; the default
alone is a suggestion, and a model that was initialised otherwise is not wrong for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from lampwork._core.errors import InputError
from lampwork.init import at_rest, duplicates, off_plan, signals
from lampwork.init.apply import place
from lampwork.init.check import FAIL, PASS, WARN, Check, CheckRow, Finding
from lampwork.init.loaded import overwritten
from lampwork.init.rehearsal import Rehearsal, rehearse
from lampwork.init.stored import Value, values_of
from lampwork.init.untouched import look_ahead, require_memory, untouched

if TYPE_CHECKING:
    from lampwork.init.plan import Row

_SPOILED = ("init-unwritten", "act-nonfinite")


def verify(
    rows: Sequence[Row],
    model: nn.Module,
    x: Any,
    y: Any = None,
    loss_fn: Callable[..., Any] | None = None,
    *,
    applied: bool = False,
) -> Check:
    """Checks the values that the model holds; see `Plan.verify`.

    Args:
        rows: of the plan.
        model: that the plan is for.
        x: a batch as the model takes it.
        y: targets.
        loss_fn: of the output and the targets.
        applied: whether the plan was carried out, so that all its rows bind.
    """
    require_memory(model)
    placed = place(rows, model)
    values = [values_of(row, site, applied=applied) for row, site in placed]
    found = [*at_rest.untied(rows, placed), *overwritten(model, values)]
    accused = {finding.where for finding in found}
    for value in values:
        found += [f for f in at_rest.findings(value) if f.where not in accused]
    spoiled = {finding.where for finding in found if finding.code in _SPOILED}
    sound = [value for value in values if value.row.name not in spoiled]
    found += [*off_plan.unlike_layers(sound)]
    for value in sound:
        found += duplicates.units(value)
    with untouched(model):
        run = lambda: _rehearsed(model, x, y, loss_fn)  # noqa: E731
        rehearsal = run()
        zero = _stuck_at_zero(model, values, rehearsal, run)
    copies = [*duplicates.layers(_reached(sound, rehearsal)), *duplicates.shards(values)]
    found += [
        *zero,
        *copies,
        *_of_the_pass(model, values, rehearsal, spoiled=bool(spoiled)),
    ]
    return Check(_rows(values, rehearsal, found), _in_order(found))


def _rehearsed(model: nn.Module, x: Any, y: Any, loss_fn: Callable[..., Any] | None) -> Rehearsal:
    try:
        return rehearse(model, x, y, loss_fn)
    except InputError as error:
        # One sample is enough for a plan; a normalisation over the batch has nothing to compare.
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(f"{error}: pass a batch of at least 2 samples, better 16") from error


def _of_the_pass(
    model: nn.Module,
    values: Sequence[Value],
    rehearsal: Rehearsal,
    *,
    spoiled: bool,
) -> Iterator[Finding]:
    broken = [*signals.nonfinite(rehearsal)]
    yield from broken
    if broken or spoiled:
        return  # what is not a number has no size
    layers = signals.carrying(values, rehearsal)
    yield from signals.loss_high(rehearsal)
    yield from signals.units(rehearsal)
    drifts = [*signals.depth(layers, rehearsal)]
    yield from drifts
    if not drifts:
        yield from signals.collapsed(model, layers, rehearsal)
    yield from signals.unreached(values, rehearsal, dict(model.named_modules()))


def _stuck_at_zero(
    model: nn.Module,
    values: Sequence[Value],
    rehearsal: Rehearsal,
    run: Callable[[], Rehearsal],
) -> list[Finding]:
    """`init-zero`: weights of zeros that get no gradient, also not after two steps."""
    empty = {
        id(value.site.stored): value
        for value in values
        if value.is_weight
        and value.site.stored.requires_grad
        and not value.site.computed
        and bool((value.values == 0).all())
    }
    slopes = rehearsal.slopes
    still = [key for key in empty if key in slopes and slopes[key].absmax == 0]
    if not still:
        return []
    stuck = [empty[key].row.name for key in look_ahead(model, run, still)]
    stuck.sort(key=[value.row.name for value in values].index)
    if not stuck:
        return []
    evidence = {"count": len(stuck), **({"also": stuck[1:]} if stuck[1:] else {})}
    advice = (
        "This weight is zero and gets no gradient that could move it: draw it at random.\n"
        f"torch.nn.init.xavier_uniform_(model.get_parameter({stuck[0]!r}))"
    )
    return [Finding("init-zero", "fail", stuck[0], evidence, advice)]


def _reached(values: Sequence[Value], rehearsal: Rehearsal) -> list[Value]:
    """Those that were trained by this pass: a target network is a copy on purpose."""
    return [v for v in values if v.site.computed or id(v.site.stored) in rehearsal.slopes]


_FIRST = (
    "init-unwritten",
    "init-untied",
    "init-off-plan",
    "init-zero",
    "init-symmetric",
    "init-vanishing",
    "init-exploding",
)


def _in_order(found: Sequence[Finding]) -> list[Finding]:
    """Failures before warnings, values at rest before what they cause."""

    def key(finding: Finding) -> tuple[bool, int]:
        late = _FIRST.index(finding.code) if finding.code in _FIRST else len(_FIRST)
        return finding.severity != "fail", late

    return sorted(found, key=key)


def _rows(
    values: Sequence[Value], rehearsal: Rehearsal, found: Sequence[Finding]
) -> list[CheckRow]:
    rows = [_of_loss(rehearsal, found)]
    shown: set[str] = set()
    for value in values:
        owner = value.row.name.rpartition(".")[0]
        output = rehearsal.outputs.get(owner) if owner not in shown else None
        carries = output is not None and (value.is_weight or value.row.role == "embedding")
        if carries:
            shown.add(owner)
        mine = [f for f in found if _means(f, value.row.name) or (carries and f.where == owner)]
        row = CheckRow(value.row.name, value.row.role, value.row.std, value.std)
        if output and carries:
            row = replace(row, output=output.moment, gradient=output.gradient, order=output.order)
        rows.append(_judged(row, mine))
    named = {row.name for row in rows} | shown
    for where in dict.fromkeys(f.where for f in found if f.where and f.where not in named):
        output = rehearsal.outputs.get(where)
        row = CheckRow(where, "module", output=output.moment if output else None)
        rows.append(_judged(row, [f for f in found if f.where == where]))
    return rows


def _means(finding: Finding, name: str) -> bool:
    return finding.where == name or name in finding.evidence.get("also", ())


def _of_loss(rehearsal: Rehearsal, found: Sequence[Finding]) -> CheckRow:
    loss = rehearsal.loss
    is_real = loss is not None and loss.is_real
    planned = math.log(loss.classes) if loss is not None and loss.classes else None
    measured = float(loss.value.detach()) if loss is not None and is_real else None
    row = CheckRow("loss", "loss", planned, measured)
    return _judged(row, [finding for finding in found if finding.where is None])


def _judged(row: CheckRow, found: Sequence[Finding]) -> CheckRow:
    worst = FAIL if any(f.severity == "fail" for f in found) else WARN if found else PASS
    return replace(row, status=worst, notes=tuple(dict.fromkeys(f.code for f in found)))
