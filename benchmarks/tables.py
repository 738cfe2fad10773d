"""The README's table of measurements, made from `results/`.

python benchmarks/tables.py            print it
python benchmarks/tables.py --write    put it between the marks in the READMEs
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
MARKS = re.compile(r"(<!-- measured: begin -->\n).*?(<!-- measured: end -->)", re.DOTALL)


def table() -> str:
    """All ratios that were measured, one row each."""
    lines = ["| ratio | median | lowest to highest | command |", "|---|---|---|---|"]
    for file in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        kept = json.loads(file.read_text(encoding="utf-8"))
        for label, ratio in kept.get("ratios", {}).items():
            spread = f"{ratio['low']:.2f} to {ratio['high']:.2f} ({ratio['pairs']} pairs)"
            lines.append(f"| {label} | {ratio['median']:.2f} | {spread} | `{kept['command']}` |")
    return "\n".join(lines) + "\n"


def filled(text: str) -> str:
    """The text of a README with the table between its marks."""
    return MARKS.sub(lambda marks: marks[1] + table() + marks[2], text)


def main() -> None:
    if "--write" in sys.argv:
        for readme in READMES:
            readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
    print(table(), end="")


if __name__ == "__main__":
    main()
