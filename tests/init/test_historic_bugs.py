"""Each historic bug is flagged, each mended twin is clean.

python -m tests.init.test_historic_bugs   # prints the score
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
import torch

from tests.init.bugs import BUGS


def _flagged(bug, check):
    """Whether the finding that the bug calls for names the place that is at fault."""
    return [
        finding
        for finding in check.findings
        if finding.code == bug.code
        and (finding.where is None if bug.where is None else fnmatchcase(finding.where, bug.where))
    ]


@pytest.mark.parametrize("name", BUGS)
def test_the_bug_is_flagged_where_it_is(name):
    """By the code and at the tensor that are at fault, as a row that does not pass."""
    torch.manual_seed(0)
    bug = BUGS[name]
    check = bug.check(False)
    found = _flagged(bug, check)
    assert found, check.findings
    where = found[0].where or "loss"
    rows = [row for row in check.rows if row.name == where or row.name == f"{where}.weight"]
    assert rows[0].status == found[0].severity.upper()
    assert bug.code in rows[0].notes


@pytest.mark.parametrize("name", BUGS)
def test_the_mended_twin_is_clean(name):
    """No finding at all, no warning either."""
    torch.manual_seed(0)
    assert BUGS[name].check(True).findings == []


def main() -> None:
    """Prints how many bugs are flagged, and how many mended twins are accused."""
    flagged = accused = 0
    for name, bug in BUGS.items():
        torch.manual_seed(0)
        found, alarms = _flagged(bug, bug.check(False)), bug.check(True).findings
        flagged += bool(found)
        accused += bool(alarms)
        verdict = f"{found[0].severity} {found[0].code} at {found[0].where}" if found else "MISSED"
        print(f"{name:28}{bug.source:42}{verdict}{'  TWIN ACCUSED' if alarms else ''}")
    print(f"{flagged} of {len(BUGS)} flagged, {accused} mended twins accused")


if __name__ == "__main__":
    main()
