"""The sections of the page, each a function from data to HTML.

Text that comes from a record is escaped where it enters the HTML.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lampwork.diagnose.finding import Finding
from lampwork.diagnose.pages import meaning
from lampwork.record.reader import Loader, Record
from lampwork.view.beginning import plan
from lampwork.view.depth import owner
from lampwork.view.layers import Layer
from lampwork.view.words import (
    LONGEST,
    advice,
    cut,
    duration,
    escape,
    evidence,
    facts,
    number,
    place,
    share,
    summary,
)

MOST_LAYERS, MOST_LOADERS, MOST_EVIDENCE = 200, 20, 12

# Verdict → the word on the page, and the strokes of its sign: they differ without any colour.
_VERDICTS = {
    "pass": ("Pass", "M4 13l5 5L20 6"),
    "warn": ("Warning", "M12 3v11M12 19v1"),
    "fail": ("Fail", "M5 5l14 14M19 5L5 19"),
}


def header(record: Record, findings: Sequence[Finding], verdict: str) -> str:
    """The verdict in large, with its reason."""
    word, strokes = _VERDICTS[verdict]
    sign = f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{strokes}"/></svg>'
    return (
        f'<header><p class="run">lampwork report · run {escape(cut(record.path.name))}</p>'
        f'<h1 class="verdict {verdict}">{sign}{word}</h1>'
        f'<p class="lead">{_lead(record, findings)}</p>'
        "</header>"
    )


def _lead(record: Record, findings: Sequence[Finding]) -> str:
    if not findings:
        reason = summary(record, findings)
        return f"{reason[:1].upper()}{reason[1:]}."
    count = "One finding" if len(findings) == 1 else f"{len(findings):,} findings, first to mend"
    first = findings[0]
    return f"{count}: <code>{escape(cut(first.code))}</code> {escape(place(first))}."


def findings_list(findings: Sequence[Finding], most: int) -> str:
    """What to mend, in the order of cause; nothing where there is nothing."""
    if not findings:
        return ""
    more = len(findings) - most
    note = f'<p class="quiet">{more:,} more findings are not shown here.</p>' if more > 0 else ""
    items = "".join(_finding(finding) for finding in findings[:most])
    return _section("What to mend, first things first", f'<ol class="findings">{items}</ol>{note}')


def _finding(finding: Finding) -> str:
    sentence, code = advice(finding)
    told = meaning(finding.code)
    numbers = evidence(finding)
    more = len(numbers) - MOST_EVIDENCE
    rest = [("…", f"{more} more in the JSON below")] if more > 0 else []
    rows = "".join(
        f'<tr><th scope="row">{escape(cut(name))}</th><td>{escape(value)}</td></tr>'
        for name, value in numbers[:MOST_EVIDENCE] + rest
    )
    severity = "fail" if finding.severity == "fail" else "warn"
    parts = [
        f'<li class="finding {severity}"><h3><code>{escape(cut(finding.code))}</code>',
        f'<span class="severity">{_VERDICTS[severity][0]}</span></h3>',
        f"<p>{escape(told[:1].upper() + told[1:])}, " if told else "<p>",
        f"{escape(place(finding))}.</p>",
        f'<table class="evidence"><tbody>{rows}</tbody></table>' if rows else "",
        f'<p class="advice">{escape(cut(sentence, 2 * LONGEST))}</p>' if sentence else "",
        f'<pre tabindex="0"><code>{_escape_lines(code)}</code></pre>' if code else "",
        "</li>",
    ]
    return "".join(parts)


def _escape_lines(code: str) -> str:
    """Code of several lines for HTML."""
    return "\n".join(escape(line) for line in cut(code, 2 * LONGEST).split("\n"))


def key_facts(record: Record) -> str:
    """The run as a whole: model, steps, duration, final loss, parameters."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts(record)
    )
    return _section("The run", f'<dl class="facts">{items}</dl>')


def figures(drawn: Sequence[str], note: str) -> str:
    """The figures side by side, two in a row where there is room."""
    shown = "".join(drawn)
    if not shown and not note:
        return ""
    note = f'<p class="quiet">{escape(note)}</p>' if note else ""
    return _section("Pictures of the run", f'{note}<div class="figures">{shown}</div>')


def loaders(found: Sequence[Loader]) -> str:
    """Who waited for whom, per loader; nothing where no loader was measured."""
    if not found:
        return ""
    parts = [_loader(loader) for loader in found[:MOST_LOADERS]]
    if len(found) > MOST_LOADERS:
        parts.append(f'<p class="quiet">{len(found) - MOST_LOADERS:,} more loaders.</p>')
    return _section("Data loading", "".join(parts))


def _loader(loader: Loader) -> str:
    stats = loader.stats
    columns = {
        "wait share": share(stats.get("wait_share")),
        "waited": _seconds(stats.get("wait_s")),
        "epoch": _seconds(stats.get("epoch_s")),
        "batches": number(stats.get("batches")),
        "samples": number(stats.get("samples")),
        "skipped": number(_count(stats.get("skipped"))),
        "engine": number(stats.get("engine")),
    }
    sentence = cut(str(stats.get("bottleneck") or ""))
    items = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in columns.items()
    )
    return (
        f'<div class="loader"><p><code>{escape(cut(loader.dataset))}</code> {escape(sentence)}</p>'
        f'<dl class="facts">{items}</dl></div>'
    )


def _seconds(value: object) -> str:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return duration(value)
    return number(None)


def _count(value: object) -> object:
    return len(value) if isinstance(value, (list, tuple)) else value


def layers(rows: Sequence[Layer], step: int, findings: Sequence[Finding]) -> str:
    """The table of layers at one step, `MOST_LAYERS` rows at most."""
    if not rows:
        return ""
    accused: dict[str, str] = {}
    for finding in findings:
        if finding.where:
            accused.setdefault(finding.where, finding.code)
            accused.setdefault(owner(finding.where), finding.code)
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("layer", "mean", "std", "zeros", "dead", "gradient rms", "update ratio")
    )
    body = "".join(_layer(row, accused.get(row.label)) for row in rows[:MOST_LAYERS])
    less = f"The first {MOST_LAYERS} of {len(rows):,} layers. " if len(rows) > MOST_LAYERS else ""
    return _section(
        "Layers",
        f'<p class="quiet">{less}Output and weight of each layer at step {step}, the last '
        "recorded one. Zeros: share of the output's elements that are 0. Dead: share of its "
        "channels that were 0 throughout the last recorded steps.</p>"
        + scrolling(
            f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>',
            "Table of layers",
        ),
    )


def _layer(row: Layer, code: str | None) -> str:
    numbers = (number(row.mean), number(row.std), share(row.zero_share), share(row.dead_share))
    cells = "".join(
        f"<td>{value}</td>" for value in (*numbers, number(row.grad_rms), number(row.update_ratio))
    )
    finder = f' <span class="finder">{escape(code)}</span>' if code else ""
    return (
        f'<tr><th scope="row">{escape(cut(row.label, 120))}{finder}'
        f'<span class="quiet">{escape(cut(row.module, 60))}</span></th>{cells}</tr>'
    )


def first_weights(record: Record) -> str:
    """The plan of the first values and its check; nothing where the run knows of none."""
    sentence, table = plan(record)
    return (
        _section("First weights", sentence + scrolling(table, "Table of the plan")) if table else ""
    )


def machine_readable(data: Mapping[str, Any]) -> str:
    """The report as JSON, folded, once for people and once for programs."""
    text = json.dumps(_finite(data), indent=2, default=str)
    # Nothing in a JSON string may end the script element or look like a link.
    for sign, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("://", ":\\/\\/")):
        text = text.replace(sign, code)
    shown = "\n".join(escape(line) for line in text.split("\n"))
    return (
        "<details><summary>The verdict as JSON, for programs</summary>"
        f'<pre tabindex="0">{shown}</pre></details>'
        f'<script type="application/json" id="lampwork-report">{text}</script>'
    )


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: they become their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def scrolling(inner: str, label: str) -> str:
    """A box that scrolls sideways on a narrow screen, also by keyboard."""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{inner}</div>'
    )


def _section(title: str, inner: str) -> str:
    return f"<section><h2>{title}</h2>{inner}</section>"
