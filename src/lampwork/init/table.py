"""A plan as aligned plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lampwork.init.plan import Row

_HEAD = ("name", "shape", "role", "fan_in", "fan_out", "consumer", "scheme", "std", "reason")


def table(rows: Sequence[Row]) -> str:
    """One line per row, columns aligned, and a last line that counts."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    # Nothing is padded after the last column: it is the longest.
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    written = sum(row.scheme != "keep" for row in rows)
    return "\n".join([*text, f"{len(rows)} tensors, {written} to write"])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        "×".join(str(size) for size in row.shape) or "scalar",
        row.role,
        _number(row.fan_in),
        _number(row.fan_out),
        row.nonlinearity + (" +residual" if row.residual else ""),
        row.scheme,
        _number(row.std),
        row.reason + (f"; also {', '.join(row.tied)}" if row.tied else ""),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
