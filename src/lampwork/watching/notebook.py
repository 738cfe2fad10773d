"""How a run shows itself at the end of a notebook's cell."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lampwork.diagnose.finding import Finding

_COLORS = {"fail": "#c0392b", "warn": "#b9770e", "pass": "#1e8449"}
_CELL = 'style="text-align:left;vertical-align:top;padding:2px 12px 2px 0"'


def as_html(
    title: str,
    facts: Sequence[tuple[str, str]],
    verdict: str,
    findings: Sequence[Finding],
) -> str:
    """A small table: what is known of the run, and the findings, the first one first.

    Colours are set on text alone, so that it reads on light and dark pages.
    """
    rows = [f"<tr><th {_CELL}>{escape(name)}</th><td {_CELL}>{escape(value)}</td></tr>"
            for name, value in facts]  # fmt: skip
    rows.append(f"<tr><th {_CELL}>verdict</th><td {_CELL}>{_colored(verdict, verdict)}</td></tr>")
    for finding in findings:
        sentence, _, code = finding.advice.partition("\n")
        told = f"{escape(sentence)}<br><code>{escape(code)}</code>" if code else escape(sentence)
        where = escape(finding.where or "the run")
        place = f"{where}, step {finding.step}" if finding.step is not None else where
        rows.append(
            f"<tr><th {_CELL}>{_colored(finding.severity, finding.code)}</th>"
            f"<td {_CELL}>{place}: {told}</td></tr>"
        )
    return f"<div><b>{escape(title)}</b><table>{''.join(rows)}</table></div>"


def _colored(severity: str, text: str) -> str:
    return f'<span style="color:{_COLORS.get(severity, "inherit")}">{escape(text)}</span>'
