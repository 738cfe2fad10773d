"""Which steps are recorded."""

import numpy as np
import pytest

from lampwork._core.errors import InputError
from lampwork.watching.schedule import Schedule


def recorded(schedule, steps, cost_s=0.0, bare_step_s=1.0):
    """The steps out of so many that a schedule records."""
    found = []
    for step in range(steps):
        if schedule.due(step):
            schedule.recorded(step, cost_s, bare_step_s)
            found.append(step)
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
    (distance,) = set(np.diff(found))
    assert distance % every == 0
    assert cost_s <= 0.02 * distance
    assert distance == every or cost_s > 0.02 * (distance - every)


def test_a_budget_follows_the_cost():
    """Once recording becomes cheap again it is done as often as asked for."""
    schedule = Schedule(1, 0.1)
    schedule.recorded(0, 1.0, 1.0)
    assert [step for step in range(1, 12) if schedule.due(step)] == [10]
    schedule.recorded(10, 0.01, 1.0)
    assert schedule.due(11)


def test_a_step_without_any_duration_does_not_stop_recording():
    """Where the clock saw no time pass beside the recording, `every` alone counts."""
    schedule = Schedule(5, 0.02)
    schedule.recorded(0, 1.0, 0.0)
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
