"""Question: does a plan cover eight architectures of transformers, and read them as a person does?

Tiny models from their configs, so that only the architecture counts, not the size. The labels in
tests/init/architectures.py were written by hand: what consumes each weight's output, and which
weights end a residual branch. Planning is timed in a warm process, the median of seven.

    python benchmarks/bench_init_architectures.py

Caveat: two layers each, on the CPU. A larger model takes longer by its forward pass; on meta it
takes what its number of layers takes.
"""

from __future__ import annotations

import datetime
import json
import platform
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import lampwork as lw
from lampwork.init.defaults import WEIGHTS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.init.architectures import ARCHITECTURES, Architecture  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "init_architectures.json"
ROUNDS = 7


def measure(architecture: Architecture) -> dict[str, Any]:
    model, example = architecture.build()
    plan = lw.init.plan(model, example)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    planned = {row.name for row in plan.rows}
    weights = [row for row in plan.rows if row.role in WEIGHTS]
    ends = [row for row in plan.rows if row.role in (*WEIGHTS, "norm")]
    return {
        "tensors": len(tensors),
        "covered": sum(name in planned for name, _ in tensors),
        "weights": len(weights),
        "consumers": sum(row.nonlinearity == architecture.label(row.name) for row in weights),
        "closing": sum(architecture.closes(row.name) for row in ends),
        "found": sum(row.residual and architecture.closes(row.name) for row in ends),
        "wrongly": sum(row.residual and not architecture.closes(row.name) for row in ends),
        "seconds": round(statistics.median(timed(model, example) for _ in range(ROUNDS)), 4),
    }


def timed(model: torch.nn.Module, example: Any) -> float:
    began = time.perf_counter()
    lw.init.plan(model, example)
    return time.perf_counter() - began


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = {}
    for name, architecture in ARCHITECTURES.items():
        found[name] = measure(architecture)
        print(f"{name:10} {found[name]}", flush=True)
    question, _, caveat = (__doc__ or "").partition("Caveat: ")
    import transformers

    kept = {
        "question": question.splitlines()[0].removeprefix("Question: "),
        "command": "python benchmarks/bench_init_architectures.py",
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "caveat": " ".join(caveat.split()),
        "architectures": found,
    }
    RESULT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
