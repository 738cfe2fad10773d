"""A plan and its check as plain values, told to the runs that will watch the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from lampwork._core import origins
from lampwork.init.registry import PLANNED, parse

if TYPE_CHECKING:
    from lampwork.init.check import Check
    from lampwork.init.plan import Row

MOST_ROWS = 2000
"""Rows that are told; a model with more tensors is seen by its first ones."""


def tell_plan(model: nn.Module, rows: Sequence[Row], seed: int | None) -> None:
    """What was written into the model, with which seed; None for a plan that was only checked."""
    told = {"seed": seed, "tensors": len(rows), "rows": [_row(row) for row in rows[:MOST_ROWS]]}
    # A check of the values before these says nothing of them.
    origins.tell(model, plan=told, check=None)


def tell_check(model: nn.Module, check: Check) -> None:
    """What the check of the model's first values found."""
    findings = [dataclasses.asdict(finding) for finding in check.findings]
    rows = [dataclasses.asdict(row) for row in check.rows[:MOST_ROWS]]
    told = {"verdict": check.verdict, "findings": findings, "rows": rows}
    origins.tell(model, check=told)


def _row(row: Row) -> dict[str, Any]:
    scheme = parse(row.scheme, known=PLANNED)
    options = ", ".join(f"{name}={value}" for name, value in scheme.options.items())
    return {
        "name": row.name,
        "role": row.role,
        "shape": list(row.shape),
        "scheme": f"{scheme}({options})" if options else str(scheme),
        "std": row.std,
        "fan_in": row.fan_in,
        "fan_out": row.fan_out,
        "nonlinearity": row.nonlinearity,
        "residual": row.residual,
        "tied": list(row.tied),
        "reason": row.reason,
    }
