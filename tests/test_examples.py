from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.fixture(params=EXAMPLES, ids=[path.stem for path in EXAMPLES])
def example(request: pytest.FixtureRequest) -> Path:
    """Each example in turn."""
    return request.param


def test_there_are_examples() -> None:
    """The folder was found, so the tests below have something to run."""
    assert EXAMPLES


def test_an_example_is_short_and_numbered(example: Path) -> None:
    """It is named `NN_name.py`, tells its idea first, and is shorter than 60 lines."""
    text = example.read_text(encoding="utf-8")

    assert re.fullmatch(r"\d\d_[a-z0-9_]+\.py", example.name)
    assert text.startswith('"""')
    assert len(text.splitlines()) < 60


def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    """It ends with exit code 0, says something, warns of nothing and leaves no file beside it."""
    before = sorted(example.parent.iterdir())
    command = [sys.executable, "-W", "error", str(example)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
    assert ended.stderr == ""
    assert sorted(example.parent.iterdir()) == before
