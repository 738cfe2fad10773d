"""What a check of the first weights found: a row per tensor, the findings, a figure."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lampwork._core.errors import CheckFailed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Severity = Literal["warn", "fail"]
PASS, WARN, FAIL = "PASS", "WARN", "FAIL"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, in the shape of the findings of a run.

    Attributes:
        code: its public name, e.g. `init-symmetric`.
        severity: `fail` where training cannot do what it should, `warn` where it does it badly.
        where: dotted name of a parameter, buffer or module; None for the model as a whole.
        evidence: the numbers that it rests on.
        advice: one sentence, then one line of code after a newline.
        step: 0, before any training.
    """

    code: str
    severity: Severity
    where: str | None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""
    step: int = 0

    def __str__(self) -> str:
        shown = ", ".join(f"{key} {_shown(value)}" for key, value in self.evidence.items())
        advice = self.advice.replace("\n", "\n    ")
        head = f"{self.severity.upper()} {self.code} at {self.where or 'the model'}"
        return f"{head}: {shown}\n    {advice}"


@dataclass(frozen=True)
class CheckRow:
    """One tensor, one module that something is wrong with, or the loss.

    Attributes:
        name: dotted name, or `"loss"`.
        role: as in the plan; `"module"`, or `"loss"`.
        planned: the standard deviation that the plan calls for; for the loss that of guessing,
            ln C. None where nothing is planned.
        measured: the standard deviation of the values, or the loss.
        output: second moment of what its layer puts out; on the row of the layer's weight.
        gradient: second moment of the gradient of that output.
        order: place of the layer in the forward pass, None where it has none.
        status: `"PASS"`, `"WARN"` or `"FAIL"`.
        notes: the codes of its findings.
    """

    name: str
    role: str
    planned: float | None = None
    measured: float | None = None
    output: float | None = None
    gradient: float | None = None
    order: int | None = None
    status: str = PASS
    notes: tuple[str, ...] = ()


_SHOWN = 5
_HEAD = ("", "name", "role", "planned", "measured", "E[output²]", "E[gradient²]", "findings")


class Check:
    """The result of `Plan.verify`: `.ok`, `.findings`, `.rows`; `print(check)` shows it.

    Attributes:
        rows: the loss first, then one per tensor in the plan's order.
        findings: those that have to be mended first stand first.
    """

    def __init__(self, rows: Sequence[CheckRow], findings: Sequence[Finding]) -> None:
        self.rows = list(rows)
        self.findings = list(findings)

    @property
    def ok(self) -> bool:
        """Whether nothing failed; warnings are no failures."""
        return not any(finding.severity == "fail" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The worst of the rows: PASS, WARN or FAIL."""
        return FAIL if not self.ok else WARN if self.findings else PASS

    def raise_if_failed(self) -> None:
        """Raises where something failed; warnings pass.

        Raises:
            CheckFailed: lists the findings.
        """
        if not self.ok:
            listed = "\n".join(f"  {finding}" for finding in self.findings)
            raise CheckFailed(f"the model does not pass the check of its first weights:\n{listed}")

    def figure(self) -> Figure:
        """Second moments of activations and of their gradients over the depth, as a figure."""
        # Imported late: not everybody draws. Not pyplot, which would take hold of a display.
        from matplotlib.figure import Figure

        layers = sorted((r for r in self.rows if r.order is not None), key=lambda r: r.order or 0)
        figure = Figure(figsize=(max(6.0, 0.25 * len(layers)), 6.0), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        places = range(len(layers))
        for axes, what, title in (
            (above, "output", "second moment of the activations"),
            (below, "gradient", "second moment of their gradients"),
        ):
            values = [_positive(getattr(row, what)) for row in layers]
            axes.plot(places, values, marker="o", color="#3465a4", linewidth=1)
            for status, color in ((WARN, "#c17d11"), (FAIL, "#cc0000")):
                marked = [i for i in places if layers[i].status == status]
                axes.plot(marked, [values[i] for i in marked], "o", color=color, label=status)
            axes.set_yscale("log")
            axes.set_ylabel(title)
            axes.grid(alpha=0.3)
        below.set_xticks(list(places), [row.name for row in layers], rotation=90, fontsize=7)
        figure.suptitle(f"{self.verdict}: {len(self.findings)} findings before any training")
        return figure

    def __str__(self) -> str:
        lines = [_HEAD, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        found = [str(finding) for finding in self.findings]
        return "\n".join([*text, *found, self._summary()])

    def __repr__(self) -> str:
        return f"<Check: {self._summary()}>"

    def _repr_html_(self) -> str:
        colors = {PASS: "#4e9a06", WARN: "#c17d11", FAIL: "#cc0000"}
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in _HEAD)
        body = "".join(
            f'<tr><td style="color:{colors[row.status]}">{row.status}</td>'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row)[1:])
            + "</tr>"
            for row in self.rows
        )
        found = "".join(f"<pre>{html.escape(str(finding))}</pre>" for finding in self.findings)
        summary = html.escape(self._summary())
        return f"<p>{summary}</p>{found}<table><tr>{head}</tr>{body}</table>"

    def _summary(self) -> str:
        counts = [sum(row.status == status for row in self.rows) for status in (PASS, WARN, FAIL)]
        return f"{self.verdict}: {counts[0]} rows pass, {counts[1]} warn, {counts[2]} fail"


def plain(number: float) -> float | str:
    """A number for evidence: four digits, and words for what JSON has no number for."""
    number = float(number)
    return float(f"{number:.4g}") if math.isfinite(number) else str(number)


def _cells(row: CheckRow) -> tuple[str, ...]:
    numbers = (row.planned, row.measured, row.output, row.gradient)
    cells = ("-" if value is None else f"{value:.3g}" for value in numbers)
    return (row.status, row.name, row.role, *cells, " ".join(row.notes))


def _shown(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    more = f" and {len(value) - _SHOWN} more" if len(value) > _SHOWN else ""
    return ", ".join(str(item) for item in value[:_SHOWN]) + more


def _positive(value: float | None) -> float:
    """What a logarithmic axis can show; a gap for the rest."""
    return value if value and math.isfinite(value) else math.nan
