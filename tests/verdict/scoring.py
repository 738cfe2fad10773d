"""Runs a script of the corpus bare and under `lampwork run`, and compares all that can be seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.verdict.corpus import FOLDER, Case

TIMEOUT_S = 180


@dataclass(frozen=True)
class Ended:
    """How one process ended."""

    code: int
    out: str
    weights: str
    err: str


@dataclass(frozen=True)
class Score:
    """What the verdict on a script is, against what it ought to be.

    Attributes:
        script: its name, with `, mended` for a mended twin.
        planted: the code of its fault, None where it is sound.
        found: the codes of its findings, the first to mend first.
        where: the place of the first.
        named: the first finding is the planted fault at its place; where nothing is planted, there
            is no finding.
        same_output: standard output is the same with and without `lampwork run`.
        same_exit: so is the exit code.
        same_weights: so are the final weights and the random state, in every bit; None where two
            bare runs differ too.
        problem: why there is no verdict to speak of, if so.
    """

    script: str
    planted: str | None
    found: tuple[str, ...]
    where: str | None
    named: bool
    same_output: bool
    same_exit: bool
    same_weights: bool | None
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def score(case: Case, *, mended: bool = False) -> Score:
    """Run a script twice, bare and watched."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / f"{case.name}.py").write_text(case.text(mended=mended), encoding="utf-8")
        bare = _run(place, f"{case.name}.py")
        watched = _run(
            place, "-m", "lampwork", "run", "--dir", "seen", "--name", "run", f"{case.name}.py"
        )
        findings = _findings(place / "seen")
    planted = None if mended else case.code
    expected = 0 if mended else case.exit_code
    found = tuple(finding["code"] for finding in findings)
    where = findings[0]["where"] if findings else None
    if planted is None:
        named = not findings
    else:
        named = bool(findings) and found[0] in (planted, *case.codes) and where in case.where
    compared = case.repeatable or mended
    return Score(
        case.name + (", mended" if mended else ""),
        planted,
        found,
        where,
        named,
        bare.out == watched.out,
        bare.code == watched.code,
        bare.weights == watched.weights if compared else None,
        "" if bare.code == expected else f"ended with {bare.code}: {bare.err[-300:]}",
    )


def scores(cases: Iterable[tuple[Case, bool]], jobs: int = 1) -> Iterable[Score]:
    """Score cases, each with whether its mended twin is meant, in their order."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda one: score(one[0], mended=one[1]), cases)


def _run(place: Path, *arguments: str) -> Ended:
    digest = place / "digest"
    digest.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(FOLDER / "observing"),
        "VERDICT_DIGEST": str(digest),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "",
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=place, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    weights = digest.read_text() if digest.exists() else ""
    return Ended(done.returncode, done.stdout, weights, done.stderr)


def _findings(folder: Path) -> list[dict[str, Any]]:
    """Of all runs that a script left: those of the first model with any come first."""
    found = []
    for report in sorted(folder.glob("*/report.json")):
        found += json.loads(report.read_text(encoding="utf-8"))["findings"]
    return found
