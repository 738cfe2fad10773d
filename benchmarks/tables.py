"""The README's tables of measurements, made from `results/`.

python benchmarks/tables.py            print them
python benchmarks/tables.py --write    put them between their marks in the READMEs
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
RESULTS = ROOT / "benchmarks" / "results"
MARKS = re.compile(r"(<!-- (\w+): begin -->\n).*?(<!-- \2: end -->)", re.DOTALL)


def measured() -> str:
    """All ratios that were measured, one row each."""
    lines = ["| ratio | median | lowest to highest | command |", "|---|---|---|---|"]
    for file in sorted(RESULTS.glob("*.json")):
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


TABLES = {"measured": measured, "depth": depth}


def filled(text: str) -> str:
    """The text of a README with the tables between their marks."""
    return MARKS.sub(lambda marks: marks[1] + TABLES[marks[2]]() + marks[3], text)


def main() -> None:
    if "--write" in sys.argv:
        for readme in READMES:
            readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
    print(depth(), measured(), sep="\n", end="")


if __name__ == "__main__":
    main()
