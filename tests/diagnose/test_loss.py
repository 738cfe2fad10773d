"""Findings about the loss, on both sides of each limit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lampwork.diagnose import loss
from lampwork.diagnose.finding import Finding

LN10 = math.log(10)


def only(findings) -> Finding:
    """The one finding there is."""
    (finding,) = findings
    return finding


def classifier(synthetic, values, *, update: float = 1e-2, **options):
    """Ten classes, and weights that move by `update` a step against their own norm of 0.1."""
    run = synthetic(**options)
    run.layer("head", output=run.row(units=10), update=run.row(update * 0.1))
    return run.loss(values)


def test_without_a_logged_loss_the_rules_are_silent(synthetic):
    """Nothing is said about what nobody logged."""
    record = synthetic().layer("a").read()
    assert not [*loss.nonfinite(record), *loss.diverging(record), *loss.flat(record)]


@pytest.mark.parametrize(
    ("values", "severity", "value"),
    [
        ([2.0, 1.0, np.nan], "fail", "nan"),
        ([2.0, 1.0, np.inf], "fail", "inf"),
        ([2.0, np.nan, 1.0], "warn", "nan"),
    ],
)
def test_a_loss_that_is_no_number_is_told(synthetic, values, severity, value):
    """A failure where it stays so, a warning where it recovers."""
    finding = only(loss.nonfinite(synthetic().loss(values).read()))
    assert (finding.code, finding.severity, finding.where) == ("loss-nonfinite", severity, None)
    assert finding.evidence["value"] == value
    assert finding.step == [*map(math.isfinite, values)].index(False)


@pytest.mark.parametrize(("factor", "accused"), [(9.0, False), (12.0, True)])
def test_a_loss_that_ends_ten_times_higher_diverges(synthetic, factor, accused):
    """Tenfold is the limit, by medians."""
    values = [2.0] * 5 + np.geomspace(2.0, 2.0 * factor, 15).tolist() + [2.0 * factor] * 20
    found = [*loss.diverging(synthetic().loss(values).read())]
    assert bool(found) is accused
    if found:
        assert found[0].code == "loss-diverging"
        assert found[0].evidence["start"] == 2.0


def test_a_loss_that_comes_back_has_not_diverged(synthetic):
    """A change of task looks like that."""
    values = [0.01] * 50 + [10.0] * 30 + [1.0] * 30
    assert not [*loss.diverging(synthetic().loss(values).read())]


def test_a_noisy_loss_around_zero_does_not_diverge(synthetic, noise):
    """A policy gradient's loss has no tenfold; its spread is the measure."""
    values = noise.normal(0, 1, 300) + 0.01
    assert not [*loss.diverging(synthetic().loss(values).read())]


def test_nineteen_values_are_too_few_to_diverge(synthetic):
    """Short runs are left alone."""
    assert not [*loss.diverging(synthetic().loss(np.geomspace(1, 1e6, 19)).read())]
    assert [*loss.diverging(synthetic().loss(np.geomspace(1, 1e6, 20)).read())]


def test_a_loss_at_guessing_is_flat(synthetic, noise):
    """Two hundred values around ln 10, with weights that moved: nothing was learnt."""
    values = math.log(10) + noise.normal(0, 0.02, 200)
    finding = only(loss.flat(classifier(synthetic, values).read()))
    assert (finding.code, finding.severity, finding.where) == ("loss-flat", "fail", None)
    assert finding.evidence["guessing"] == pytest.approx(math.log(10), rel=1e-3)
    assert finding.evidence["values"] == 200


def level(noise, *, mean=LN10, values=200, spread=0.02, slope=0.0):
    """A loss around a level, with noise and a slope per step."""
    return mean + noise.normal(0, spread, values) + slope * np.arange(values)


@pytest.mark.parametrize(
    ("case", "course", "options"),
    [
        ("short", {"values": 199}, {}),
        ("not guessing", {"mean": 0.3}, {}),
        ("it falls slowly", {"slope": -1.5e-4, "spread": 0.01}, {}),
        ("it falls", {"slope": -3e-4}, {}),
        ("hardly moved", {}, {"update": 1e-3}),
        ("batches of one", {"spread": 0.3}, {}),
    ],
)
def test_a_flat_loss_may_have_its_reasons(synthetic, noise, case, course, options):
    """Fine-tuning, slow beginnings and blurred losses are not accused."""
    run = classifier(synthetic, level(noise, **course), **options)
    assert not [*loss.flat(run.read())], case


def test_a_loss_in_warm_up_is_left_alone(synthetic, noise):
    """While the learning rate rises it is too early to say."""
    run = classifier(synthetic, level(noise)).notes(lr=[[0.01 * i] for i in range(10)])
    assert not [*loss.flat(run.read())]


def test_a_loss_that_never_changes_at_all_is_flat_sooner(synthetic):
    """Twenty equal values at guessing are enough."""
    assert only(loss.flat(classifier(synthetic, [math.log(10)] * 20).read()))
    assert not [*loss.flat(classifier(synthetic, [math.log(10)] * 19).read())]


def test_losses_of_a_game_of_two_are_not_judged(synthetic, noise):
    """Where optimizers take turns a loss may stand, or rise, in good health."""
    for values in (level(noise), np.geomspace(1, 1e4, 200)):
        run = synthetic(steps=4).loss(values)
        row = run.row(1e-3)
        run.layer("g", update=[row, None, row, None])
        run.layer("d", output=run.row(units=10), update=[None, row, None, row])
        record = run.read()
        assert not [*loss.flat(record), *loss.diverging(record)]


def test_a_loss_that_falls_and_gets_nowhere_is_flat(synthetic, noise):
    """Labels learnt by heart let it fall, after much moving by hardly anything."""

    def found(update: float, end: float) -> list[str]:
        values = np.linspace(2.31, end, 350) + noise.normal(0, 0.01, 350)
        run = synthetic(steps=35).loss(values)
        run.layer("a", output=run.row(units=10), update=run.row(update))
        return [one.code for one in loss.flat(run.read())]

    assert found(4e-4, 2.28) == ["loss-flat"]
    assert found(4e-4, 2.2) == []  # it gets somewhere
    assert found(1e-4, 2.28) == []  # it has hardly been tried
