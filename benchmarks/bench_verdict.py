"""Question: does the verdict name what is wrong with a script, and leave sound scripts alone?

Every script of `tests/verdict/` is run twice, bare and under `lampwork run`: the faulty ones, their
mended twins, and sound ones of unusual practice. Compared are the first finding with what was
planted, standard output, exit code, and the final weights, bit by bit. Predicted: the scripts that
were written before the rules were tuned reach the goal; those written after stay some below it.

python benchmarks/bench_verdict.py                 all of them, some twenty minutes on two cores
python benchmarks/bench_verdict.py --part 2/8      every eighth; kept beside what is known already
python benchmarks/bench_verdict.py forgot_zero_grad labels_drawn_anew    these alone
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from pathlib import Path

import torch
from ratios import RESULTS
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.verdict.corpus import CORPUS, Case  # noqa: E402  (the root is on the path only now)
from tests.verdict.scoring import Score, scores  # noqa: E402

FILE = RESULTS / "verdict.json"


def chosen(names: list[str], part: str) -> list[tuple[Case, bool]]:
    """The cases to run, each with whether its mended twin is meant."""
    every = [(case, mended) for case in CORPUS for mended in (False, True)]
    every = [(case, mended) for case, mended in every if case.code is not None or not mended]
    if names:
        every = [one for one in every if one[0].name in names]
    place, _, count = part.partition("/")
    return every[int(place) - 1 :: int(count)]


def group(case: Case, mended: bool) -> str:
    """What a script is counted as."""
    kind = "mended" if mended else "faulty" if case.code is not None else "healthy"
    return f"{kind}, unseen" if case.unseen else kind


def keep(found: dict[str, dict]) -> None:
    """Put scores into the results, beside those of scripts that were not run this time."""
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    scripts = {**known.get("scripts", {}), **found}
    names = [
        case.name + (", mended" if mended else "") for case, mended in chosen([], "1/1")
    ]  # those that are no more are forgotten
    kept = {
        "question": (__doc__ or "").splitlines()[0].removeprefix("Question: "),
        "command": "python benchmarks/bench_verdict.py",
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scripts": {name: scripts[name] for name in names if name in scripts},
    }
    FILE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def row(score: Score) -> list[str]:
    """One line of the table."""
    same = (score.same_output, score.same_exit, score.same_weights)
    marks = ["–" if one is None else "yes" if one else "NO" for one in same]
    found = ", ".join(score.found[:3]) or "–"
    place = "" if not score.found else "run" if score.where is None else score.where or "(model)"
    return [
        "yes" if score.named and not score.problem else "NO",
        score.script, score.planted or "–", found, place, *marks, score.problem[-60:],
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="scripts, all by default")
    parser.add_argument("--part", default="1/1", help="every n-th, e.g. 2/8")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="scripts at a time")
    options = parser.parse_args()
    cases = chosen(options.names, options.part)
    heads = ("right", "script", "planted", "found", "at", "output", "exit", "weights", "")
    table = Table(*heads, box=None, pad_edge=False)
    found, began = {}, time.perf_counter()
    for (case, mended), score in zip(cases, scores(cases, options.jobs), strict=True):
        found[score.script] = {"group": group(case, mended), **score.as_json()}
        table.add_row(*row(score))
    keep(found)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    right = sum(one["named"] and not one["problem"] for one in found.values())
    seconds = time.perf_counter() - began
    print(f"{right} of {len(found)} as they should be, in {seconds:.0f} s; kept in {FILE.name}")


if __name__ == "__main__":
    main()
