"""The course of the loss."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lampwork.diagnose.curve import guesses, guessing, knows, training_loss


def curve_of(synthetic, values):
    """The curve of a run with these values of the loss."""
    found = training_loss(synthetic().loss(values).read())
    assert found is not None
    return found


def test_start_and_end_are_medians(synthetic):
    """One value that sticks out at either end changes neither."""
    found = curve_of(synthetic, [9, 2, 2, 2, 2, *[1.5] * 15, 1, 1, 1, 1, 7])
    assert (found.start, found.end) == (2, 1)
    assert found.fallen == 0.5


def test_a_short_curve_begins_with_its_first_value(synthetic):
    """What five steps have learnt is not part of the start when there are hardly more."""
    assert curve_of(synthetic, [3, 1, 1, 1]).start == 3


def test_nan_at_the_end_is_no_fall(synthetic):
    """A loss that ends in NaN has not fallen, whatever it did before."""
    found = curve_of(synthetic, [2, 1, 0.5, *[np.nan] * 5])
    assert found.end == math.inf
    assert found.fallen == -1


def test_a_negative_loss_can_fall(synthetic):
    """A log-likelihood that goes from 5 to -5 has fallen."""
    assert curve_of(synthetic, [5.0] * 10 + [-5.0] * 10).fallen == 2


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["accuracy", "loss_d", "loss"], "loss"),
        (["val_loss", "train_loss"], "train_loss"),
        (["train/loss_ce", "test.loss"], "train/loss_ce"),
        (["accuracy", "val/loss", "glossary"], None),
    ],
)
def test_the_training_loss_is_found_by_its_name(synthetic, names, chosen):
    """`loss` itself, else the first that says so and is not of a validation."""
    run = synthetic()
    for name in names:
        run.loss([1, 2], name=name)
    found = training_loss(run.read())
    assert (found and found.name) == chosen


def test_guessing_is_ln_c(synthetic):
    """Guessing among the outputs of the last layer costs ln C; one output is a yes or no."""
    run = synthetic().stack(3).layer("head", output=synthetic().row(units=10))
    assert guessing(run.read()) == [pytest.approx(math.log(10))]
    run = synthetic().layer("head", output=synthetic().row(units=1))
    assert guessing(run.read()) == [pytest.approx(math.log(2))]


def test_the_whole_model_counts_among_the_outputs(synthetic):
    """A model that reuses its embedding as the last layer tells the classes by its own output."""
    run = synthetic().stack(3).output("", synthetic().row(units=1000))
    assert guessing(run.read()) == [pytest.approx(math.log(n)) for n in (100, 1000)]


def test_below_guessing_is_knowledge(synthetic):
    """A loss a fifth below guessing shows knowledge, one around it shows none."""
    for end, known in ((1.7, True), (2.2, False)):
        run = synthetic().layer("head", output=synthetic().row(units=10)).loss([2.3, end, end])
        record = run.read()
        assert knows(record) is known
        assert guesses(record, end, 0.1) is not known


def test_a_loss_that_was_logged_late_has_a_before(synthetic):
    """The first value stands in where none was logged before a step."""
    found = curve_of(synthetic, [3.0, 2.0, 1.0])
    assert found.until(-1) == 3.0
    assert found.until(1) == 2.5
    assert found.highest_after(1) == 2.0
