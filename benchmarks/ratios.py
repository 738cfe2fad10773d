"""Ratios of two things run in turn, and the files that keep them."""

from __future__ import annotations

import datetime
import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

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


def write(name: str, question: str | None, ratios: Mapping[str, Ratio]) -> Path:
    """Keep the ratios of one benchmark in `results/NAME.json`, with what they depend on."""
    import torch

    path = RESULTS / f"{name}.json"
    kept = {
        "question": (question or "").strip().splitlines()[0].removeprefix("Question: "),
        "command": f"python benchmarks/bench_{name}.py",
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "ratios": {label: asdict(ratio) for label, ratio in ratios.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return path
