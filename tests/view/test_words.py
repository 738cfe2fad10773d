from __future__ import annotations

import re

import numpy as np
import pytest

from lampwork.diagnose.finding import Finding
from lampwork.view import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (True, "yes"), (np.False_, "no"), (1234567, "1,234,567"), (0.0, "0"),
        (0.012345678, "0.01235"), (4.0, "4"), (12345.6, "12,346"), (1.5e-7, "1.5e-7"),
        (3e12, "3e12"), (np.nan, "NaN"), (np.inf, "∞"), (-np.inf, "-∞"), (np.float32(0.5), "0.5"),
        ([1, "a", None], "1, a, –"), ({"a": 1}, "a 1"), (np.array([1.5, 2.5]), "1.5, 2.5"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_people_write_them(value, text):
    """Four digits, thousands apart, exponents without padding, words for what is no number."""
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (0.41, "41 %"), (1, "100 %"), (0.0012, "0.12 %"), (0.996, "99.60 %"),
     (np.nan, "NaN"), (None, "–"), ("much", "much"), (True, "yes")],
)  # fmt: skip
def test_shares_are_percent(value, text):
    """A share of 1 is shown in percent, with digits where 0 % or 100 % would be wrong."""
    assert words.share(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (7321, "2 h 2 min")]
)
def test_durations_have_two_units(seconds, text):
    """A time span is told in the two units that matter."""
    assert words.duration(seconds) == text


def test_evidence_has_units():
    """Shares become percent and seconds say so; everything else keeps its name."""
    evidence = {"dead_share": 0.97, "wait_s": 1.5, "units": 128}
    found = words.evidence(Finding("x", "warn", None, 0, evidence))
    assert found == [("dead share", "97 %"), ("wait", "1.5 s"), ("units", "128")]


def test_advice_is_a_sentence_and_code():
    """The first line is the sentence, what follows is code."""
    finding = Finding("x", "warn", None, 0, {}, "Do this.\nfor x in y:\n\tdo(x)")
    assert words.advice(finding) == ("Do this.", "for x in y:\n    do(x)")
    assert words.advice(Finding("x", "warn", None, 0)) == ("", "")


@pytest.mark.parametrize("where", ["a\x1b[31mb", "a\nverdict: pass", "a\u202eb", "\ud800"])
def test_no_name_can_steer_a_terminal(where):
    """Escape sequences, line breaks, reversed text and broken surrogates become one mark each."""
    text = words.place(Finding("x", "warn", where, 0))
    assert not re.search("[\x00-\x1f\u202e\ud800]", text)
    text.encode()


def test_a_missing_place_is_the_run_as_a_whole():
    """Without a place there is only the step."""
    assert words.place(Finding("x", "warn", None, 7)) == "since step 7"


def test_facts_leave_out_what_is_not_known(build):
    """An unfinished record of an older writer has no empty facts."""
    facts = dict(words.facts(build(parameters=None).read()))
    assert facts == {
        "model": "Net", "steps": "0", "recorded steps": "0",
        "ended": "not closed: running or killed",
    }  # fmt: skip


def test_facts_of_a_whole_run(mlp):
    """Model, steps, duration and the last loss are those of the record."""
    facts = dict(words.facts(mlp.read()))
    assert facts == {
        "model": "Net", "parameters": "1,234", "steps": "31", "recorded steps": "4",
        "duration": "15.0 s", "final loss": "0.09957", "optimizer": "SGD",
        "started": "2026-01-02 03:04", "ended": "in order",
    }  # fmt: skip
