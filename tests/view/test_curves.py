from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork.view.curves import MOST_POINTS, envelope, is_noisy, loss, smoothed


def test_losses_share_one_axis_and_other_scalars_are_small_below(build):
    """Scalars named loss are lines of one axis with the logged numbers; others get their own."""
    made = build()
    for step in range(10):
        made.writer.scalar(step, "loss", 10.0 - step)
        made.writer.scalar(step, "val_Loss", 20.0 - step)
        made.writer.scalar(step, "lr", 0.1)
    main, small = loss(made.read()).axes
    lines = {line.get_label(): line for line in main.get_lines()}
    assert list(lines) == ["loss", "val_Loss"]
    np.testing.assert_array_equal(lines["loss"].get_xdata(), np.arange(10))
    np.testing.assert_array_equal(lines["loss"].get_ydata(), 10.0 - np.arange(10))
    np.testing.assert_array_equal(lines["val_Loss"].get_ydata(), 20.0 - np.arange(10))
    assert small.get_title("left") == "lr"
    np.testing.assert_array_equal(small.get_lines()[0].get_ydata(), np.full(10, 0.1))


def test_a_noisy_curve_gets_its_running_mean_drawn_over_it(build):
    """A jittering loss is drawn light, with the mean of 5 neighbours thick over it."""
    values = np.random.default_rng(0).normal(1.0, 0.1, 40)
    made = build()
    for step, value in enumerate(values):
        made.writer.scalar(step, "loss", float(value))
    raw, thick = loss(made.read()).axes[0].get_lines()
    np.testing.assert_array_equal(raw.get_ydata(), values)
    assert raw.get_alpha() < 0.5 < thick.get_linewidth()
    means = [values[max(0, i - 2) : i + 3].mean() for i in range(40)]
    np.testing.assert_allclose(thick.get_ydata(), means)


def test_a_smooth_curve_is_drawn_once(build):
    """A loss without jitter needs no running mean."""
    made = build()
    for step in range(100):
        made.writer.scalar(step, "loss", 2.0 - step / 100)
    assert len(loss(made.read()).axes[0].get_lines()) == 1


def test_nonfinite_values_become_marks_at_their_steps(build):
    """NaN and infinity leave a gap in the line and a mark in the step where they came."""
    made = build()
    for step, value in enumerate([3.0, np.nan, 2.0, np.inf, -np.inf, 1.0]):
        made.writer.scalar(step, "loss", value)
    lines = {line.get_label(): line for line in loss(made.read()).axes[0].get_lines()}
    np.testing.assert_array_equal(
        lines["loss"].get_ydata(), [3.0, np.nan, 2.0, np.nan, np.nan, 1.0]
    )
    where = {name: list(line.get_xdata()) for name, line in lines.items() if name != "loss"}
    assert where == {"loss is NaN": [1], "loss is +inf": [3], "loss is -inf": [4]}


def test_a_loss_over_many_decades_gets_a_logarithmic_axis(build):
    """From 1e-4 to 1e3 a linear axis would show one spike."""
    made = build()
    for step, value in enumerate(np.logspace(3, -4, 20)):
        made.writer.scalar(step, "loss", float(value))
    axes = loss(made.read()).axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_ylim() == pytest.approx((1e-4, 1e3))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308, -1e300, 0.0, 5.0])
def test_a_single_value_of_any_size_can_be_drawn(build, value):
    """One value, however large, broken or small, makes a figure without a warning."""
    made = build()
    made.writer.scalar(0, "loss", value)
    loss(made.read()).draw_without_rendering()


def test_scalars_beyond_the_room_are_counted(build):
    """Of 30 scalars nine are drawn, and the figure says how many are not."""
    made = build()
    for i in range(30):
        made.writer.scalar(0, f"metric{i}", 1.0)
    figure = loss(made.read())
    assert len(figure.axes) == 9
    assert figure.get_supxlabel() == "21 more scalars are not drawn"


def test_nothing_logged_is_no_figure(build):
    """A run without a logged number has no loss figure."""
    assert loss(build().read()) is None


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=1, max_size=300))
def test_the_running_mean_equals_the_obvious_one(values):
    """The running mean is the mean of the finite values in the window, NaN where there is none."""
    values = np.array(values)
    window = min(max(5, len(values) // 20 | 1), len(values))
    # An even window, on a very short curve, reaches one further to the left.
    left, right = window // 2, (window - 1) // 2
    expected = []
    for i in range(len(values)):
        near = values[max(0, i - left) : i + right + 1]
        near = near[np.isfinite(near)]
        expected.append(near.mean() if near.size else np.nan)
    places, smooth = smoothed(values)
    np.testing.assert_array_equal(places, np.arange(len(values)))
    np.testing.assert_allclose(smooth, expected, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(MOST_POINTS + 1, 30_000), st.integers(0, 2**32 - 1))
def test_a_long_curve_keeps_its_extremes(length, seed):
    """Thinning a long curve keeps the order of steps, the highest and the lowest value."""
    values = np.random.default_rng(seed).normal(size=length)
    values[length // 3] = np.nan
    steps, kept = envelope(np.arange(length), values)
    assert len(kept) <= MOST_POINTS
    assert (np.diff(steps) > 0).all()
    np.testing.assert_array_equal(kept, values[steps])
    assert np.nanmax(kept) == np.nanmax(values)
    assert np.nanmin(kept) == np.nanmin(values)


def test_a_long_curve_is_averaged_before_it_is_smoothed():
    """A straight line of a million values is its own mean, at a thousand places along it."""
    line = np.linspace(0.0, 1.0, 1_000_000)
    places, smooth = smoothed(line)
    assert len(places) == MOST_POINTS // 2
    inner = slice(50, -50)  # at the ends the window is cut in half
    np.testing.assert_allclose(smooth[inner], line[places][inner], atol=1e-3)
    assert not is_noisy(line, places, smooth)
