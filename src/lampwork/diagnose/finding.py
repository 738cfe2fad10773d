"""One thing that is wrong: what, where, since when, the evidence, what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a run.

    Attributes:
        code: its public name, e.g. `act-dead`.
        severity: `fail` where training cannot do what it should, `warn` where it does it badly.
        where: dotted name of a module or parameter, a loader's dataset class, None for the run.
        step: the first recorded step at which it shows.
        evidence: the numbers that it rests on.
        advice: one sentence, then one line of code after a newline.
    """

    code: str
    severity: Severity
    where: str | None
    step: int
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding as JSON types, keys as the report promises them."""
        return {**asdict(self), "evidence": dict(self.evidence)}


def plain(number: float) -> float | str:
    """A number for evidence: four digits, and words for what JSON has no number for."""
    number = float(number)
    return float(f"{number:.4g}") if math.isfinite(number) else str(number)


def others(names: list[str], shown: int = 5) -> dict[str, Any]:
    """Evidence about the further places of one fault: how many in all, and the next few names."""
    rest = names[1 : 1 + shown]
    return {"count": len(names), **({"also": rest} if rest else {})}
