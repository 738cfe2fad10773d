"""The README's tables of measurements, made from `results/`.

python benchmarks/tables.py            print them
python benchmarks/tables.py --write    put them between their marks in the READMEs
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
RESULTS = ROOT / "benchmarks" / "results"
MARKS = re.compile(r"(<!-- (\w+): begin -->\n).*?(<!-- \2: end -->)", re.DOTALL)

LOADER = ("memory", "arrays", "small", "start", "resume", "death")
"""Questions about the loader, in the order of their rows."""

AS_TORCH = ": torch's time / ours"
"""How labels of most ratios end; the head of the table says it once."""


def kept_of(name: str) -> dict[str, Any]:
    """What a benchmark has found; nothing before it ran."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def loader() -> str:
    """The loader's figures that have a place in the design, with its goals; below, its peers."""
    found = [kept_of(f"loader_{question}") for question in LOADER]
    rows = [
        f"| {label.removesuffix(AS_TORCH)} | {goal} | {figure(kept, label)} |"
        for kept in found
        for label, goal in kept.get("goals", {}).items()
    ]
    if not rows:
        return ""
    head = ["| as times torch's speed | goal | median | lowest to highest |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n" + peers()


def figure(kept: dict[str, Any], label: str) -> str:
    """A ratio and its spread as two cells, or a fact and an empty one."""
    if label not in kept["ratios"]:
        return f"{kept['facts'][label]} | "
    ratio = kept["ratios"][label]
    low, high = short(ratio["low"]), short(ratio["high"])
    return f"{short(ratio['median'])} | {low} to {high} ({ratio['pairs']} pairs)"


def short(value: float) -> str:
    """Some three digits: 0.86, 12.3, 4,213."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def peers() -> str:
    """Other loaders, one row each, by workload."""
    cells: dict[str, dict[str, str]] = {}
    for label, ratio in kept_of("loader_peers").get("ratios", {}).items():
        work, _, peer = label.partition(": torch's time / ")
        cells.setdefault(peer, {})[work] = short(ratio["median"])
    works = list(dict.fromkeys(work for row in cells.values() for work in row))
    if not works:
        return ""
    lines = [
        "| as times torch's speed | " + " | ".join(works) + " |",
        "|---|" + "---|" * len(works),
    ]
    for peer, row in cells.items():
        lines.append(f"| {peer} | " + " | ".join(row.get(work, "–") for work in works) + " |")
    return "\n" + "\n".join(lines) + "\n"


def measured() -> str:
    """All other ratios that were measured, one row each."""
    lines = ["| ratio | median | lowest to highest | command |", "|---|---|---|---|"]
    for file in sorted(RESULTS.glob("*.json")):
        if file.stem.startswith("loader_"):
            continue
        kept = json.loads(file.read_text(encoding="utf-8"))
        for label, ratio in kept.get("ratios", {}).items():
            spread = f"{ratio['low']:.2f} to {ratio['high']:.2f} ({ratio['pairs']} pairs)"
            lines.append(f"| {label} | {ratio['median']:.2f} | {spread} | `{kept['command']}` |")
    return "\n".join(lines) + "\n"


def depth() -> str:
    """Accuracy by scheme and depth, one row per scheme, each seed on its own."""
    accuracy = json.loads((RESULTS / "init_depth.json").read_text(encoding="utf-8"))["accuracy"]
    depths = list(next(iter(accuracy.values())))
    lines = ["| | " + " | ".join(depths) + " |", "|---|" + "---|" * len(depths)]
    for scheme, by_depth in accuracy.items():
        cells = (" · ".join(f"{seed:.2f}" for seed in by_depth[d]) for d in depths)
        lines.append(f"| {scheme} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


TABLES = {"loader": loader, "depth": depth, "measured": measured}


def filled(text: str) -> str:
    """The text of a README with the tables between their marks."""
    return MARKS.sub(lambda marks: marks[1] + TABLES[marks[2]]() + marks[3], text)


def main() -> None:
    if "--write" in sys.argv:
        for readme in READMES:
            readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
    print(*(table() for table in TABLES.values()), sep="\n", end="")


if __name__ == "__main__":
    main()
