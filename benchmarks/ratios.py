"""Ratios of two things run in turn, and the files that keep them."""

from __future__ import annotations

import datetime
import json
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios, with the smallest and the largest of them."""

    median: float
    low: float
    high: float
    pairs: int

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Ratio:
        """Sum up ratios that were measured pair by pair."""
        return cls(statistics.median(ratios), min(ratios), max(ratios), len(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f}, {self.pairs} pairs)"


def write(
    name: str,
    question: str | None,
    ratios: Mapping[str, Ratio],
    *,
    goals: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Keep the ratios of one benchmark in `results/NAME.json`, with what they depend on.

    Args:
        name: of the benchmark.
        question: its docstring, whose first line is kept.
        ratios: by label.
        goals: of the design, by label of a ratio or fact; "" where there is none, but the row is
            to stand in the README all the same.
        facts: what was found besides ratios, by label.
    """
    import torch

    path = RESULTS / f"{name}.json"
    kept = {
        "question": (question or "").strip().splitlines()[0].removeprefix("Question: "),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "ratios": {label: asdict(ratio) for label, ratio in ratios.items()},
    }
    kept |= {"goals": dict(goals)} if goals else {}
    kept |= {"facts": dict(facts)} if facts else {}
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
