"""What is looked at before every step: whether gradients are numbers, recorded or not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lampwork.diagnose import diagnose
from lampwork.watching.flight import Flight
from tests.watching.training import record_of, seeded, sgd, watched


class Distance(nn.Module):
    """The distance of two embeddings, whose slope is infinite where they are one."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (self.tower(a) - self.tower(b)).square().sum(1).sqrt()


def steps(model: nn.Module, run, twins_at: int, count: int) -> None:
    """Train on pairs; at one step there is a pair of equals."""
    optimizer = sgd(model, lr=0.01)
    for step in range(count):
        a, b = torch.randn(5, 4), torch.randn(5, 4)
        b[2] = a[2] if step == twins_at else b[2]
        optimizer.zero_grad()
        loss = model(a, b).mean()
        loss.backward()
        optimizer.step()
        run.log(loss=loss)


@pytest.mark.parametrize("at", [3, 10, 17])
def test_a_gradient_that_spoils_the_weights_is_named_at_its_step(tmp_path, at):
    """Whether its step was recorded or not, the finding is the same."""
    model = seeded(Distance)
    with watched(model, tmp_path, every=10) as run:
        steps(model, run, at, 31)
    first = diagnose(record_of(run))[0]
    assert (first.code, first.step) == ("grad-nonfinite", at)
    assert first.where in ("tower.2", "tower")
    assert first.evidence["parameter"].startswith("tower.2")


def test_a_sound_run_leaves_nothing(tmp_path):
    """Where no gradient is spoiled, the run has no word about it."""
    model = seeded(Distance)
    with watched(model, tmp_path, every=10) as run:
        steps(model, run, -1, 12)
    assert "spoiled_gradient" not in record_of(run).meta


def test_the_parameters_are_those_with_spoiled_gradients():
    """Named are all of them, the last first, by comparison one by one; a large sum is no fault."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    flight = Flight(model)
    for p in model.parameters():
        p.grad = torch.full_like(p, 3e38)  # finite, but their sum is not
    flight.look(0)
    assert flight.found == {}
    model[0].bias.grad[1] = float("nan")
    model[1].weight.grad[0, 0] = float("inf")
    flight.look(1)
    flight.look(2)
    assert flight.found == {
        "step": 1, "parameters": ["1.weight", "0.bias"], "count": 2, "weights_nonfinite": 0,
    }  # fmt: skip
