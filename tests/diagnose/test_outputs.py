"""Outputs that are flat, collapsed, or sure too early, in real training and beside their twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lampwork.diagnose import diagnose
from lampwork.record.reader import Record
from tests.diagnose.digits import Apply, Digits, adam, drawn, mlp, sgd


def wide_weights_before_tanh(digits: Digits, faulty: bool) -> Record:
    """N(0, 5²) in front of a module."""
    model = drawn(mlp(64, 64, 64, 10, act=nn.Tanh), 5.0 if faulty else 0.1)
    nn.init.normal_(model[4].weight, 0, 0.1)
    return digits.train(model, sgd(model))


def wide_weights_before_functions(digits: Digits, faulty: bool) -> Record:
    """The same in front of functions, one of which is a gate."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.gate = nn.Linear(64, 64), nn.Linear(64, 64)
            self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 10)
            nn.init.constant_(self.gate.bias, 9.0)
            nn.init.normal_(self.second.weight, 0, 3.0 if faulty else 0.1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.first(x)) * torch.sigmoid(self.gate(x))
            return self.head(torch.sigmoid(self.second(x)))

    model = Model()
    nn.init.normal_(model.first.weight, 0, 0.5)
    return digits.train(model, sgd(model))


def softmax_over_one(digits: Digits, faulty: bool) -> Record:
    """One number whose softmax is 1."""
    model = mlp(64, 32, 1)
    model.append(nn.Softmax(1) if faulty else nn.Sigmoid())

    def loss(p: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy(p[:, 0], (y > 4).float())

    return digits.train(model, sgd(model), loss=loss)


def similarity_alone(digits: Digits, faulty: bool) -> Record:
    """Views are drawn together, and nothing keeps them apart."""
    model = mlp(64, 32, 16, act=nn.Tanh)

    def loss(z: Tensor, _: Tensor) -> Tensor:
        a, b = z.chunk(2)
        if faulty:
            return (a - b).square().sum(1).mean()
        return F.cross_entropy(F.normalize(a) @ F.normalize(b).T / 0.2, torch.arange(len(a)))

    return digits.train(model, adam(model, 3e-2), loss=loss, steps=200)


def large_head(digits: Digits, faulty: bool) -> Record:
    """Logits of standard deviation ten."""
    model = mlp(64, 64, 10)
    nn.init.normal_(model[2].weight, 0, 4.0 if faulty else 0.1)
    return digits.train(model, sgd(model, 0.01))


@pytest.mark.parametrize(
    ("case", "code", "where"),
    [
        (wide_weights_before_tanh, "act-saturated", "1"),
        (wide_weights_before_functions, "act-saturated", "second"),
        (softmax_over_one, "act-collapsed", "3"),
        (similarity_alone, "act-collapsed", "2"),
        (large_head, "init-loss-high", None),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_useless_outputs_are_named_first(digits, images, case, code, where):
    """The finding names the module, or the layer before a function; the twin passes."""
    found = diagnose(case(digits, True))
    assert (found[0].code, found[0].where) == (code, where)
    assert len(found[0].advice.splitlines()) == 2
    torch.manual_seed(0)
    assert diagnose(case(Digits(*images, digits.folder), False)) == []


def test_a_chain_that_fades_stands_before_the_outputs_that_it_makes_equal(digits):
    """Ten sigmoid layers let neither gradients through nor differences, from the first step on."""
    model = mlp(64, *[64] * 10, 10, act=nn.Sigmoid)
    codes = [finding.code for finding in diagnose(digits.train(model, sgd(model, 0.1)))]
    assert codes[:2] == ["grad-vanishing", "act-collapsed"]


def autoencoder(digits: Digits) -> Record:
    """A sigmoid at the end, most of whose values are 0."""
    model = mlp(64, 32, 64)
    model.append(nn.Sigmoid())

    def step(run: Any, x: Tensor, _: Tensor) -> None:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy(model(x), x)
        loss.backward()
        optimizer.step()
        run.log(loss=loss)

    optimizer = adam(model, 1e-2)
    return digits.watched(model, step)


def head_that_starts_at_zero(digits: Digits) -> Record:
    """The same output for all samples, for one step."""
    model = mlp(64, 64, 10)
    nn.init.zeros_(model[2].weight)
    return digits.train(model, sgd(model))


def sure_units_that_have_learnt(digits: Digits) -> Record:
    """Tanh units that training drives to their ends while the loss falls."""
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), Apply(lambda x: x), nn.Linear(32, 10))
    return digits.train(model, adam(model, 3e-2), steps=120)


@pytest.mark.parametrize(
    "case",
    [autoencoder, head_that_starts_at_zero, sure_units_that_have_learnt],
    ids=lambda case: case.__name__,
)
def test_outputs_that_are_meant_are_not_accused(digits, case):
    """Certainty at the end, a start at zero, and units that have made up their mind."""
    assert diagnose(case(digits)) == []
