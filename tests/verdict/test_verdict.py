"""The corpus is whole; a sample of it is judged rightly. `bench_verdict.py` runs all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lampwork.diagnose.checked import CHECKED
from lampwork.diagnose.pages import pages
from tests.verdict.corpus import CORPUS, FOLDER, Case
from tests.verdict.scoring import score

BY_NAME = {case.name: case for case in CORPUS}
SAMPLE = ("layers_in_a_list", "accumulation")


def test_every_code_has_a_faulty_script():
    """Each fault that a run can show is planted somewhere; 40 scripts at least."""
    only_checked = {text.split("`")[1] for text in CHECKED}
    planted = {case.code for case in CORPUS} - {None}
    assert planted >= set(pages()) - only_checked
    assert len(CORPUS) >= 40
    assert {case.file for case in CORPUS} == {
        file for file in FOLDER.glob("*/*.py") if file.parent.name != "observing"
    }


@pytest.mark.parametrize("case", [c for c in CORPUS if c.code], ids=lambda case: case.name)
def test_a_mended_twin_is_another_script(case: Case):
    """The replacements fit, change something, and leave Python."""
    mended = case.text(mended=True)
    assert mended != case.text()
    compile(mended, case.name, "exec")


@pytest.mark.parametrize("name", SAMPLE)
def test_a_script_is_judged_and_left_alone(name: str):
    """The planted fault stands first, a sound script passes; all else is as without us."""
    found = score(BY_NAME[name])
    assert (found.named, found.problem) == (True, "")
    assert (found.same_output, found.same_exit, found.same_weights) == (True, True, True)


@pytest.mark.parametrize(
    ("script", "same"),
    [
        ("import sys\nprint(any('watching' in name for name in sys.modules), sys.argv)", True),
        ("import sys\nprint('lampwork.cli.run' in sys.modules)", False),
        ("import sys\nsys.exit('lampwork.cli.run' in sys.modules)", False),
    ],
)
def test_a_script_that_notices_us_is_told(tmp_path: Path, script: str, same: bool):
    """The comparison sees a difference where there is one."""
    (tmp_path / "nosy.py").write_text(script)
    found = score(Case(tmp_path / "nosy.py"))
    assert (found.same_output and found.same_exit) == same
