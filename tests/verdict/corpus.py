"""What is planted in each script of the corpus, where, and what mends it.

The scripts stand in `faulty/`, `healthy/` and `unseen/` as a user would have written them; nothing
in them tells what we expect. `corpus.toml` does. A mended twin is the faulty script with the
replacements of its case. Those in `unseen/` were written after the rules had been tuned.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One script and what the verdict on it ought to be.

    Attributes:
        file: the script.
        code: the planted fault; None for a healthy script.
        where: the places that are right; None is the run as a whole.
        codes: further names under which the fault may stand first, where two describe it equally.
        mend: replacements, each old text occurring once, that make the mended twin.
        exit_code: how the script ends.
        repeatable: two runs of the bare script print the same and end with the same weights.
        slow: it takes more than ten seconds by itself.
    """

    file: Path
    code: str | None = None
    where: tuple[str | None, ...] = ()
    codes: tuple[str, ...] = ()
    mend: tuple[tuple[str, str], ...] = ()
    exit_code: int = 0
    repeatable: bool = True
    slow: bool = False

    @property
    def name(self) -> str:
        """Of the script, without its folder."""
        return self.file.stem

    @property
    def unseen(self) -> bool:
        """Whether it was written after the rules had been tuned."""
        return self.file.parent.name == "unseen"

    def text(self, *, mended: bool = False) -> str:
        """The script, or its mended twin.

        Raises:
            ValueError: a replacement does not fit the script.
        """
        text = self.file.read_text(encoding="utf-8")
        for old, new in self.mend if mended else ():
            if text.count(old) != 1:
                raise ValueError(f"{self.file} holds {old!r} {text.count(old)} times, not once")
            text = text.replace(old, new)
        return text


def _case(file: Path, facts: Mapping[str, Any]) -> Case:
    where = tuple(None if place == "run" else place for place in facts.get("where", ()))
    mend = tuple((old, new) for old, new in facts.get("mend", ()))
    rest = {key: value for key, value in facts.items() if key not in ("where", "mend", "codes")}
    return Case(file, where=where, mend=mend, codes=tuple(facts.get("codes", ())), **rest)


def _read() -> tuple[Case, ...]:
    planted = tomllib.loads((FOLDER / "corpus.toml").read_text(encoding="utf-8"))
    files = {
        file.stem: file
        for folder in ("faulty", "healthy", "unseen")
        for file in sorted((FOLDER / folder).glob("*.py"))
    }
    faulty = [_case(files.pop(name), facts) for name, facts in planted.items()]
    return (*faulty, *(Case(file) for file in files.values()))


CORPUS = _read()
"""Every script: first the faulty ones in the order of `corpus.toml`, then the healthy ones."""
