"""Findings about waiting for data, on both sides of each limit."""

from __future__ import annotations

import pytest

from lampwork.diagnose import data

WAITS = {"wait_share": 0.6, "wait_s": 45.0, "batches": 500}


def test_half_a_minute_and_half_of_the_time_is_starvation(synthetic):
    """The dataset is named, with the share and the seconds."""
    (finding,) = data.starved(synthetic().loader("Photos", **WAITS).read())
    assert (finding.code, finding.severity, finding.where) == ("data-starved", "warn", "Photos")
    assert finding.evidence == {"wait_share": 0.6, "wait_s": 45.0, "batches": 500}
    assert "Photos" in finding.advice


@pytest.mark.parametrize("less", [{"wait_share": 0.49}, {"wait_s": 29.0}, {"batches": 9}])
def test_less_waiting_is_ordinary(synthetic, less):
    """A small model on small data waits much of little time."""
    assert not [*data.starved(synthetic().loader("Photos", **{**WAITS, **less}).read())]
