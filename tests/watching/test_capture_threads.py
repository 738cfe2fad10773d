"""Capture where several threads call the model at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import lampwork
from tests.watching.specimen import Of, X, hooks_of
from tests.watching.threads import Meeting, side_by_side


def shared(meet: Meeting) -> nn.Sequential:
    """A model that calls one layer twice, with threads that meet between the two."""
    torch.manual_seed(0)
    tanh = nn.Tanh()
    layers = [nn.Linear(4, 4), tanh, Of(meet.wait), nn.Linear(4, 4), tanh]
    return nn.Sequential(Of(meet.enter), *layers)


def gradients(seen: lampwork.Capture, name: str) -> list[Tensor]:
    """All that was captured of one call."""
    call = seen[name]
    return [call.input, call.output, call.grad_input, call.grad_output]


def test_calls_of_threads_are_told_as_if_one_had_waited_for_the_other() -> None:
    """Three threads that are in the model together give the calls, by name, with the values and
    gradients, of the same three passes one after the other.
    """
    count = 3
    meet = Meeting(count)
    model = shared(meet)

    def work(k: int) -> None:
        meet.in_turn(k)
        model(X + k).square().sum().backward()

    with lampwork.capture(model) as seen:
        side_by_side(work, count)
    meet.over()
    with lampwork.capture(model) as expected:
        for k in range(count):
            model(X + k).square().sum().backward()
    assert seen.names() == expected.names()
    assert "2#6" in seen
    assert "2#7" not in seen
    for name in expected:
        for ours, theirs in zip(gradients(seen, name), gradients(expected, name), strict=True):
            if theirs is None:
                assert ours is None
            else:
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    # The order in which threads add to one gradient is theirs.
    torch.testing.assert_close(seen["1"].grad_weight, expected["1"].grad_weight)
    assert hooks_of(model) == []


def test_a_thread_that_raises_leaves_the_others_alone() -> None:
    """What one thread called until its forward raised is kept, and the other's calls are whole."""
    meet = Meeting(2)

    def maybe(x: Tensor) -> Tensor:
        meet.wait(x)
        if x.sum() > 100:
            raise ArithmeticError("inside")
        return x

    model = nn.Sequential(Of(meet.enter), nn.Sequential(Of(maybe)), nn.Tanh())
    inputs = [X, X + 1000]

    def work(k: int) -> None:
        meet.in_turn(k)
        model(inputs[k])

    with lampwork.capture(model) as seen:
        errors = side_by_side(work, 2, raises=True)
    assert [type(error) for error in errors] == [type(None), ArithmeticError]
    assert torch.equal(seen["2"].output, X.tanh())
    assert "2#2" not in seen
    assert torch.equal(seen["1.0#2"].input, inputs[1])
    assert seen["1.0#2"].output is None
