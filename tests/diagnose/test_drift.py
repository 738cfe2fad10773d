"""Gradual changes over the depth, told from jumps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork.diagnose.drift import drift


@settings(deadline=None, max_examples=100)
@given(
    st.floats(-3, 3).filter(lambda decades: abs(decades) > 0.01),
    st.integers(3, 12),
    st.floats(1e-6, 1e3),
)
def test_the_same_factor_in_every_layer_is_a_drift(per_layer: float, layers: int, scale: float):
    """A geometric series is a drift by its whole extent, on any scale."""
    found = drift(scale * 10.0 ** (per_layer * np.arange(layers)))
    assert found is not None
    assert found.decades == pytest.approx(per_layer * (layers - 1))


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 11), st.floats(-8, 8).filter(lambda decades: abs(decades) > 0.1))
def test_one_jump_is_no_drift(at: int, decades: float):
    """A change that happens in one layer is none, wherever it is and however large."""
    magnitudes = np.ones(12)
    magnitudes[at:] = 10.0**decades
    assert drift(magnitudes) is None


def test_it_begins_where_a_tenth_is_left():
    """The place is the first at which a whole power of ten is gone."""
    found = drift([1.0, 0.5, 0.2, 0.09, 0.05, 0.01])
    assert found is not None
    assert found.begins == 3
    assert found.ratio == pytest.approx(0.01)


@pytest.mark.parametrize("magnitudes", [[1.0, 0.1], [1.0, np.nan, 0.1], [1.0, 1.0, 1.0], []])
def test_what_cannot_be_judged_is_no_drift(magnitudes: list[float]):
    """Too few layers, an unknown one, and no change at all say nothing."""
    assert drift(magnitudes) is None


def test_underflow_to_zero_continues_a_drift():
    """Magnitudes that fall below what float32 can hold end in zeros, and are still a drift."""
    assert drift([1.0, 1e-15, 1e-30, 0.0, 0.0]) is not None
