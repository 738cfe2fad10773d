"""How long a report may be."""

from __future__ import annotations

import json

from lampwork.diagnose.limit import LIMIT_BYTES, within_limit


def finding(text: str) -> dict:
    """A finding with that text in its every place."""
    evidence = {text: text, "list": [text] * 500}
    return {"code": "x", "where": text, "evidence": evidence, "advice": text}


def test_an_ordinary_report_is_left_alone():
    """What is short is the same afterwards."""
    report = {"schema": 1, "run": "a", "findings": [finding("b") | {"evidence": {"c": 1.5}}]}
    assert within_limit(report) == report


def test_the_longest_report_keeps_the_first_causes():
    """Thousands of findings of thousands of letters fit, the first of them and the count kept."""
    report = {"schema": 1, "run": "a", "findings": [finding(str(i) * 3000) for i in range(1000)]}
    found = within_limit(report)
    assert len(json.dumps(found, indent=1).encode()) <= LIMIT_BYTES
    assert found["findings"][0]["advice"].startswith("000")
    assert found["left_out"] + len(found["findings"]) == 1000
