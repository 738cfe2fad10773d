"""Which steps are recorded."""

import numpy as np
import pytest

from lampwork._core.errors import InputError
from lampwork.watching.schedule import Schedule


def recorded(schedule, steps, cost_s=0.0, bare_step_s=1.0):
    """The steps out of so many that a schedule records."""
    found = []
    for step in range(steps):
        own_s = cost_s if schedule.due(step) else 0.0
        found += [step] if schedule.due(step) else []
        schedule.passed(step, bare_step_s + own_s, own_s)
    return found


@pytest.mark.parametrize("every", [1, 2, 7, 100])
def test_steps_are_zero_and_the_multiples(every):
    """Recorded are 0, every, 2·every, … whatever they cost, where there is no budget."""
    assert recorded(Schedule(every, None), 30, cost_s=99) == list(range(0, 30, every))


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("cost_s", [0.001, 0.019, 0.02, 0.1, 0.55])
def test_a_budget_is_kept(every, cost_s):
    """The share of time that recording takes stays within the budget, and no step less is recorded
    than that needs; steps are multiples of `every`.
    """
    steps = 2000
    found = recorded(Schedule(every, 0.02), steps, cost_s, 1.0)
    distances = np.diff(found)[1:]  # the first one lets steps pass, to know how long they are
    distance = int(np.median(distances))
    alone = distances[distances != distance]  # one now and then, to know that still
    assert len(alone) <= steps / 60
    assert (alone == distance + 1).all()
    assert distance % every == 0
    assert cost_s <= 0.02 * distance
    assert distance == every or cost_s > 0.02 * (distance - every)


def test_a_budget_follows_the_cost():
    """Once recording becomes cheap again it is done as often as asked for."""
    schedule = Schedule(1, 0.1)
    assert recorded(schedule, 10, cost_s=1.0) == [0]
    for step in range(10, 40):
        schedule.passed(step, 1.01 if schedule.due(step) else 1.0, 0.01 * schedule.due(step))
    assert schedule.dense


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize(
    ("first_s", "own_s", "hidden_s", "between_s"),
    [(0.05, 0.05, 0.0, 0.0), (3.0, 0.04, 0.0, 0.002), (0.5, 0.03, 0.06, 0.002), (0, 0.01, 0.3, 0)],
    ids=["a callback", "a first step", "what no callback sees", "mostly hidden"],
)
def test_a_budget_holds_for_all_that_watching_takes(
    every, noise, first_s, own_s, hidden_s, between_s
):
    """Whatever a step takes longer, seen by callbacks or not, at recorded steps and others, is two
    percent of the training; the clock may be as unsteady as that of a machine with neighbours.
    """
    schedule, random = Schedule(every, 0.02), np.random.default_rng(0)
    ours = trained = 0.0
    count = 4000
    for step in range(count):
        bare_s = 1.0 + noise * random.exponential()
        seen_s, unseen_s = between_s, 0.0
        if schedule.due(step):
            seen_s, unseen_s = own_s if step else first_s, hidden_s
        schedule.passed(step, bare_s + seen_s + unseen_s, seen_s)
        ours, trained = ours + seen_s + unseen_s, trained + bare_s
    # What is not seen is charged by the median of steps, so at the first of them it is unknown.
    assert ours <= 0.02 * trained + hidden_s
    assert ours >= (0.012 if noise == 0 and every == 1 else 0.004) * trained


def test_some_of_a_budget_goes_to_recording_always():
    """Where all of it goes into what runs between recorded steps, a tenth of it records."""
    schedule = Schedule(1, 0.02)
    found = []
    for step in range(3000):
        found += [step] if schedule.due(step) else []
        own_s = 0.1 if schedule.due(step) else 0.02
        schedule.passed(step, 1.0 + own_s, own_s)
    assert 0.8 * 0.002 < 0.1 * (len(found) - 2) / 3000 <= 0.002


def test_a_step_without_any_duration_does_not_stop_recording():
    """Where the clock saw no time pass beside the recording, `every` alone counts."""
    schedule = Schedule(5, 0.02)
    schedule.passed(0, 1.0, 1.0)
    assert schedule.due(5)


@pytest.mark.parametrize("every", [0, -1, 1.0, "10", True, None])
def test_every_is_a_whole_number_of_steps(every):
    """Anything else is refused with its value and what would do."""
    with pytest.raises(InputError) as error:
        Schedule(every, None)
    assert str(error.value) == f"every={every!r} must be a whole number of steps, 1 or more"


@pytest.mark.parametrize("budget", [0, 1, -0.1, 2.0, float("nan")])
def test_a_budget_is_a_share(budget):
    """A budget of nothing, of all, or in percent is refused."""
    with pytest.raises(InputError) as error:
        Schedule(1, budget)
    assert str(error.value) == f"budget={budget!r} is a share of the step time: 0.02 means 2 %"
