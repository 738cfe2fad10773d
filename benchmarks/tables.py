"""The documents' tables of measurements, made from `results/`.

python benchmarks/tables.py            print them
python benchmarks/tables.py --write    put them between their marks in the READMEs and docs/
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
RESULTS = ROOT / "benchmarks" / "results"
MARKS = re.compile(r"(<!-- (\w+): begin -->\n).*?(<!-- \2: end -->)", re.DOTALL)

LOADER = ("memory", "arrays", "small", "start", "later", "resume", "death")
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


def verdicts() -> str:
    """How often the verdict on a script is right, in figures; then each that is not."""
    kept = kept_of("verdict").get("scripts", {})
    if not kept:
        return ""
    lines = [
        "| | goal | scripts of the corpus | written after the rules were tuned |",
        "|---|---|---|---|",
    ]
    for label, goal, kinds, wanted in (
        ("planted faults named first, at the right place", "≥ 95 %", ("faulty",), "named"),
        ("mended and sound scripts not accused", "all", ("mended", "healthy"), "named"),
        ("same output with and without us", "all", ("faulty", "mended", "healthy"), "same_output"),
        ("same exit code", "all", ("faulty", "mended", "healthy"), "same_exit"),
        ("same final weights, bit by bit", "all", ("faulty", "mended", "healthy"), "same_weights"),
    ):
        cells = []
        for unseen in ("", ", unseen"):
            groups = {kind + unseen for kind in kinds}
            asked = [one for one in kept.values() if one["group"] in groups]
            asked = [one for one in asked if one[wanted] is not None]
            right = sum(one[wanted] and not one["problem"] for one in asked)
            cells.append(f"{right} of {len(asked)}" if asked else "–")
        lines.append(f"| {label} | {goal} | " + " | ".join(cells) + " |")
    missed = [
        f"`{name}` ({one['planted'] or 'nothing'} planted, {_first(one)} found)"
        for name, one in kept.items()
        if not one["named"]
    ]
    tail = f"\nNot right: {', '.join(missed)}.\n" if missed else ""
    return "\n".join(lines) + "\n" + tail


def _first(score: Mapping[str, Any]) -> str:
    return score["found"][0] if score["found"] else "nothing"


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
    """Plain ReLU networks: accuracy by scheme, one column per depth."""
    found = kept_of("init_schemes").get("accuracy", {})
    plain = {label: found[label] for label in found if re.fullmatch(r"ReLU, \d+ layers", label)}
    if not plain:
        return ""
    lines = ["| | " + " | ".join(label.partition(", ")[2] for label in plain) + " |"]
    lines.append("|---|" + "---|" * len(plain))
    for scheme in next(iter(plain.values())):
        cells = " | ".join(seeds(column[scheme]) for column in plain.values())
        lines.append(f"| {scheme} | {cells} |")
    return "\n".join(lines) + "\n"


def seeds(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"


def schemes() -> str:
    """`auto` against the best scheme by hand, one row per network; then all that was tried."""
    kept = kept_of("init_schemes")
    if not kept:
        return ""
    lines = [
        "| network | auto | best by hand | | auto lies behind by | noise | within |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, one in kept["verdicts"].items():
        by_scheme = kept["accuracy"][label]
        lines.append(
            f"| {label} | {seeds(by_scheme['auto'])} | {one['best']} | "
            f"{seeds(by_scheme[one['best']])} | {one['behind']:+.3f} | {one['noise']:.3f} | "
            f"{'yes' if one['within'] else 'no'} |"
        )
    lines.append("")
    for label, by_scheme in kept["accuracy"].items():
        rates = kept.get("rates", {}).get(label, {})
        tried = [
            f"{name} {seeds(values)}" + (f" at {rates[name]:g}" if name in rates else "")
            for name, values in by_scheme.items()
        ]
        lines.append(f"- {label}: {', '.join(tried)}")
    return "\n".join([*lines, "", *_source(kept)])


def architectures() -> str:
    """What a plan found in eight architectures, against labels by hand."""
    kept = kept_of("init_architectures")
    if not kept:
        return ""
    lines = [
        "| | parameters and buffers covered | consumers as labelled | branch ends found | "
        "wrongly | plan, ms |",
        "|---|---|---|---|---|---|",
    ]
    for label, one in kept["architectures"].items():
        lines.append(
            f"| {label} | {one['covered']} of {one['tensors']} | "
            f"{one['consumers']} of {one['weights']} | {one['found']} of {one['closing']} | "
            f"{one['wrongly']} | {one['seconds'] * 1000:.0f} |"
        )
    return "\n".join([*lines, "", *_source(kept)])


def _source(kept: dict[str, Any]) -> list[str]:
    """The command that measured it, and what it does not show."""
    caveat = kept["caveat"][0].upper() + kept["caveat"][1:]
    return [f"`{kept['command']}`, torch {kept['torch']}. {caveat}", ""]


TABLES = {"loader": loader, "depth": depth, "verdict": verdicts, "measured": measured}
"""Of the READMEs."""

PAGES = {ROOT / "docs" / "initialisation.md": {"schemes": schemes, "architectures": architectures}}
"""Tables of other pages."""


def filled(text: str, tables: Mapping[str, Callable[[], str]] = TABLES) -> str:
    """The text of a page with the tables between their marks."""
    return MARKS.sub(lambda marks: marks[1] + tables[marks[2]]() + marks[3], text)


def main() -> None:
    pages = {**dict.fromkeys(READMES, TABLES), **PAGES}
    if "--write" in sys.argv:
        for page, tables in pages.items():
            page.write_text(filled(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
    every = {name: table for tables in pages.values() for name, table in tables.items()}
    print(*(table() for table in every.values()), sep="\n", end="")


if __name__ == "__main__":
    main()
