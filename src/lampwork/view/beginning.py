"""The first weights on the report's page: the plan, and its check before any training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lampwork.record.reader import Record
from lampwork.view.words import cut, escape, number

MOST_ROWS = 200

_WORDS, _LONG = ' class="words"', ' class="words long"'
_COLUMNS = {
    "tensor": "", "shape": "", "scheme": _WORDS, "planned std": "", "measured std": "",
    "check": _WORDS, "why": _LONG,
}  # fmt: skip


def rows_of(told: object) -> list[Mapping[str, Any]]:
    """The rows of a plan or a check as a record holds it; empty where it holds none."""
    rows = told.get("rows") if isinstance(told, Mapping) else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def plan(record: Record) -> tuple[str, str]:
    """A sentence, and the table of what each tensor was to get, with what was measured.

    Returns:
        HTML of both; empty where the run knows of no plan.
    """
    planned = rows_of(record.meta.get("plan"))
    if not planned:
        return "", ""
    check = record.meta.get("check")
    measured = {str(row.get("name")): row for row in rows_of(check)}
    body = "".join(_row(row, measured.get(str(row.get("name")), {})) for row in planned[:MOST_ROWS])
    columns = "".join(f'<th scope="col"{kind}>{name}</th>' for name, kind in _COLUMNS.items())
    table = f'<table class="numbers"><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>'
    return f'<p class="quiet">{_sentence(record.meta["plan"], check, len(planned))}</p>', table


def _sentence(plan: Mapping[str, Any], check: object, count: int) -> str:
    shown = (
        f"The first {MOST_ROWS} of {count:,} tensors" if count > MOST_ROWS else f"{count} tensors"
    )
    seed = plan.get("seed")
    written = "checked, not written" if seed is None else f"written with seed {number(seed)}"
    if not isinstance(check, Mapping):
        return f"{shown}, {escape(written)}."
    found = check.get("findings")
    count = len(found) if isinstance(found, list) else 0
    what = "nothing wrong" if not count else f"{count} finding" + "s" * (count != 1)
    verdict = escape(str(check.get("verdict", "")).lower())
    return f"{shown}, {escape(written)}. The check before training: {verdict}, {what}."


def _row(row: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    shape = row.get("shape")
    sides = " × ".join(str(side) for side in shape) if isinstance(shape, list) else ""
    notes = seen.get("notes")
    codes = " ".join(str(note) for note in notes) if isinstance(notes, list) else ""
    status = f"{str(seen.get('status', '–')).lower()} {codes}".strip()
    scheme = re.sub(
        r"\d+\.\d{4,}", lambda found: number(float(found[0])), str(row.get("scheme", ""))
    )
    cells = (
        sides, scheme, number(row.get("std")), number(seen.get("measured")), status,
        str(row.get("reason", "")),
    )  # fmt: skip
    name = escape(cut(str(row.get("name")), 120))
    return (
        f'<tr><th scope="row">{name}</th>'
        + "".join(
            f"<td{kind}>{escape(cut(cell, 160))}</td>"
            for cell, kind in zip(cells, list(_COLUMNS.values())[1:], strict=True)
        )
        + "</tr>"
    )
