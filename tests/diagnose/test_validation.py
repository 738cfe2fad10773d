"""Validation in training mode is told apart from passes without gradients that are meant."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn
from torch.utils.checkpoint import checkpoint

import lampwork
from lampwork.diagnose import diagnose
from lampwork.record.reader import Record


def model_of_two_modes() -> nn.Sequential:
    """Batch normalisation, dropout, and two classes."""
    torch.manual_seed(0)
    hidden = [nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*hidden, nn.Linear(16, 2))


def train(
    path: Path, after: Callable[[nn.Module, int, Tensor], None], *, model: nn.Module | None = None,
    forward: Callable[[nn.Module, Tensor], Tensor] = lambda model, x: model(x),
) -> list[str]:  # fmt: skip
    """Forty steps, with something after each; the codes of what is found."""
    model = model_of_two_modes() if model is None else model
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with lampwork.watch(model, every=5, dir=path, pictures=False) as run:
        for step in range(40):
            x = torch.randn(16, 6)
            optimizer.zero_grad()
            F.cross_entropy(forward(model, x), (x[:, 0] > 0).long()).backward()
            optimizer.step()
            after(model, step, x)
    assert run.path is not None
    return [finding.code for finding in diagnose(Record(run.path))]


@torch.no_grad()
def validate(model: nn.Module, passes: int) -> None:
    """Some passes without gradients."""
    for _ in range(passes):
        model(torch.randn(16, 6))


def in_mode(model: nn.Module, training: bool, passes: int) -> None:
    """A validation in a mode, and back."""
    model.train(training)
    validate(model, passes)
    model.train()


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_a_validation_in_training_mode_is_named(tmp_path, passes, training):
    """Every tenth step, by one batch or several; the twin calls `eval`."""
    found = train(tmp_path, lambda m, s, x: s % 10 == 9 and in_mode(m, training, passes))
    assert found == (["mode-train-in-validation"] if training else [])


def test_a_test_after_the_last_step_is_seen(tmp_path):
    """Nothing is recorded after it, and the finding tells its step all the same."""
    assert train(tmp_path, lambda m, s, x: s == 39 and validate(m, 2)) == [
        "mode-train-in-validation"
    ]


def accuracy_of_each_step(model: nn.Module, step: int, x: Tensor) -> None:
    """A number to print."""
    with torch.no_grad():
        model(x)


def dropout_alone(model: nn.Module, step: int, x: Tensor) -> None:
    """Monte Carlo dropout."""
    if step == 39:
        model.eval()
        model[3].train()
        validate(model, 20)


def statistics_anew(model: nn.Module, step: int, x: Tensor) -> None:
    """What averaging of weights ends with."""
    if step == 39:
        update_bn([torch.randn(16, 6) for _ in range(4)], model)


def samples_for_a_critic(model: nn.Module, step: int, x: Tensor) -> None:
    """Five passes, between which another model is trained."""
    for _ in range(5):
        validate(model, 1)
        torch.zeros(1, requires_grad=True).sum().backward()


@pytest.mark.parametrize(
    "habit",
    [accuracy_of_each_step, dropout_alone, statistics_anew, samples_for_a_critic],
    ids=lambda habit: habit.__name__,
)
def test_passes_that_are_meant_are_not_accused(tmp_path, habit):
    """Passes without gradients in training mode have their uses."""
    assert train(tmp_path, habit) == []


def test_a_checkpointed_model_is_not_accused(tmp_path):
    """Its first pass runs without gradients, and is made again in the backward pass."""

    def forward(model: nn.Module, x: Tensor) -> Tensor:
        return checkpoint(model, x.requires_grad_(), use_reentrant=True)

    assert train(tmp_path, lambda *_: None, forward=forward) == []


def test_a_model_of_one_mode_keeps_no_hook(tmp_path):
    """Only models with two modes have a hook between recorded steps, and copies have none."""
    for model, count in ((nn.Linear(6, 2), 0), (model_of_two_modes(), 1)):
        seen: list[int] = []

        def look(model: nn.Module, step: int, x: Tensor, seen: list[int] = seen) -> None:
            if step == 2:
                seen.append(len(model._forward_pre_hooks))
                for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
                    with torch.no_grad():
                        copied(x)

        train(tmp_path, look, model=model)
        assert seen == [count]
        assert not model._forward_pre_hooks
