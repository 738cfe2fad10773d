"""Faults in real training are found and named; their mended twins pass."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lampwork.diagnose import diagnose
from lampwork.record.reader import Record
from tests.diagnose.digits import (
    Apply,
    Digits,
    Functional,
    adam,
    cnn,
    drawn,
    mlp,
    sgd,
)


def dead_relu(digits: Digits, faulty: bool) -> Record:
    """A bias so low that no input reaches above it."""
    model = mlp(64, 64, 64, 10)
    nn.init.constant_(model[2].bias, -100.0 if faulty else 0.0)
    return digits.train(model, sgd(model))


def dead_functional_relu(digits: Digits, faulty: bool) -> Record:
    """The same where the ReLU is a function."""
    model = Functional()
    nn.init.constant_(model.hidden.bias, -100.0 if faulty else 0.0)
    return digits.train(model, sgd(model), shape=(1, 8, 8), loss=F.nll_loss)


def mostly_dead_functional_relu(digits: Digits, faulty: bool) -> Record:
    """Sixty-one of sixty-four units of a functional ReLU."""
    model = Functional()
    with torch.no_grad():
        model.hidden.bias[:61].fill_(-100.0 if faulty else 0.0)
    return digits.train(model, sgd(model), shape=(1, 8, 8), loss=F.nll_loss)


def never_cleared(digits: Digits, faulty: bool) -> Record:
    """No `zero_grad`."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model), clear=not faulty)


def forgotten_last_layer(digits: Digits, faulty: bool) -> Record:
    """An optimizer that was made before the head."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model[:2] if faulty else model))


def forgotten_middle_layer(digits: Digits, faulty: bool) -> Record:
    """An optimizer of the first and the last layer."""
    model = mlp(64, 64, 64, 10)
    parts = [model[0], model[4]] if faulty else [model]
    return digits.train(model, sgd(nn.ModuleList(parts)))


def evaluation_mode(digits: Digits, faulty: bool) -> Record:
    """Batch normalisation and dropout in evaluation mode."""
    model = cnn().train(not faulty)
    return digits.train(model, adam(model), shape=(1, 8, 8))


def rate_of_zero(digits: Digits, faulty: bool) -> Record:
    """A learning rate of 0."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model, 0.0 if faulty else 0.1))


def rate_far_too_high(digits: Digits, faulty: bool) -> Record:
    """A learning rate that throws the weights away."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model, 50.0 if faulty else 0.1))


def adaptive_rate_too_high(digits: Digits, faulty: bool) -> Record:
    """The same with Adam, whose steps have the size of the rate."""
    model = mlp(64, 64, 64, 10)
    return digits.train(model, adam(model, 1.0 if faulty else 1e-3))


def rate_that_overflows(digits: Digits, faulty: bool) -> Record:
    """A learning rate that ends in NaN within five steps."""
    model = mlp(64, 64, 64, 10)
    return digits.train(model, sgd(model, 1e4 if faulty else 0.1))


def rate_far_too_low(digits: Digits, faulty: bool) -> Record:
    """A learning rate of which nothing is to be seen."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model, 1e-6 if faulty else 0.1), steps=120)


def weights_too_small(digits: Digits, faulty: bool) -> Record:
    """Twenty-two layers of N(0, 0.01)."""
    model = drawn(mlp(*[64] * 22, 10), 0.01 if faulty else None)
    return digits.train(model, sgd(model, 0.02), steps=30)


def weights_too_large(digits: Digits, faulty: bool) -> Record:
    """Eight layers of N(0, 1)."""
    model = drawn(mlp(*[64] * 8, 10), 1.0 if faulty else None)
    return digits.train(model, sgd(model, 0.02))


def constant_weights(digits: Digits, faulty: bool) -> Record:
    """One weight for all units."""
    model = mlp(64, 64, 10)
    if faulty:
        nn.init.constant_(model[0].weight, 0.05)
    return digits.train(model, sgd(model))


def zero_weights(digits: Digits, faulty: bool) -> Record:
    """Zeros throughout."""
    model = drawn(mlp(64, 64, 64, 10), 0.0 if faulty else None)
    return digits.train(model, sgd(model))


def logarithm_of_zero(digits: Digits, faulty: bool) -> Record:
    """A logarithm behind a ReLU."""
    log = Apply(lambda x: torch.log(x if faulty else x + 1.0))
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), log, nn.Linear(64, 10))
    return digits.train(model, sgd(model))


def root_of_zero(digits: Digits, faulty: bool) -> Record:
    """A square root whose value is finite where its slope is not."""
    root = Apply(lambda x: torch.sqrt(x * (x > 0) + (0.0 if faulty else 0.1)))
    model = nn.Sequential(nn.Linear(64, 64), root, nn.Linear(64, 10))
    return digits.train(model, sgd(model))


def sigmoid_stack(digits: Digits, faulty: bool) -> Record:
    """Eight layers of sigmoids."""
    model = mlp(*[64] * 9, 10, act=nn.Sigmoid if faulty else nn.ReLU)
    return digits.train(drawn(model, None), sgd(model), steps=120)


def chaotic_sine_stack(digits: Digits, faulty: bool) -> Record:
    """Outputs that are bounded, gradients that are not."""
    model = drawn(mlp(*[64] * 12, 10, act=lambda: Apply(torch.sin)), 1.0 if faulty else None)
    return digits.train(model, sgd(model, 0.01))


def detached(digits: Digits, faulty: bool) -> Record:
    """A first layer that is cut off."""
    cut = Apply(lambda x: x.detach() if faulty else x)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), cut, nn.Linear(64, 10))
    return digits.train(model, sgd(model))


def unused_layer(digits: Digits, faulty: bool) -> Record:
    """A last layer that nobody calls."""
    model = mlp(64, 64, 10)
    if faulty:
        model.append(nn.Linear(10, 10))
        model.forward = lambda x: model[:3](x)
    return digits.train(model, sgd(model))


def run_away_regression(digits: Digits, faulty: bool) -> Record:
    """A step just beyond what the curvature allows."""
    model = nn.Linear(64, 1)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(output[:, 0], y.float())

    return digits.train(model, sgd(model, 0.1 if faulty else 0.01), loss=loss, steps=40)


def labels_at_random(digits: Digits, faulty: bool) -> Record:
    """Labels that have nothing to do with the images."""
    model = mlp(64, 64, 10)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output, torch.randint(10, y.shape) if faulty else y)

    return digits.train(model, adam(model), loss=loss, steps=250)


@pytest.mark.parametrize(
    ("case", "codes", "where"),
    [
        (dead_relu, ["act-dead"], "3"),
        (dead_functional_relu, ["act-dead"], "hidden"),
        (mostly_dead_functional_relu, ["act-dead"], "hidden"),
        (never_cleared, ["grad-accumulating"], None),
        (forgotten_last_layer, ["optim-missing-params"], "2.weight"),
        (forgotten_middle_layer, ["optim-missing-params"], "2.weight"),
        (evaluation_mode, ["mode-eval-in-training"], None),
        (rate_of_zero, ["optim-frozen"], None),
        (rate_far_too_high, ["optim-lr-high"], None),
        (adaptive_rate_too_high, ["optim-lr-high", "act-dead"], None),
        (rate_that_overflows, ["optim-lr-high", "act-nonfinite", "loss-nonfinite"], None),
        (rate_far_too_low, ["optim-lr-low"], None),
        (weights_too_small, ["init-vanishing", "grad-vanishing"], "2"),
        (weights_too_large, ["init-exploding"], "4"),
        (constant_weights, ["init-symmetric"], "0.weight"),
        (zero_weights, ["init-zero"], "0.weight"),
        (logarithm_of_zero, ["act-nonfinite", "loss-nonfinite"], "2"),
        (root_of_zero, ["grad-nonfinite", "act-nonfinite", "loss-nonfinite"], "0"),
        (sigmoid_stack, ["grad-vanishing"], "0"),
        (chaotic_sine_stack, ["grad-exploding"], "0"),
        (detached, ["grad-none"], "0.weight"),
        (unused_layer, ["grad-none"], "3.weight"),
        (run_away_regression, ["loss-diverging"], None),
        (labels_at_random, ["loss-flat"], None),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_fault_is_found_and_its_mended_twin_passes(digits, case, codes, where):
    """The finding to mend first names the fault and its place; without the fault there is none."""
    found = diagnose(case(digits, True))
    assert (found[0].code, found[0].where) == (codes[0], where)
    assert set(codes) <= {finding.code for finding in found}
    for finding in found:
        assert json.dumps(finding.as_json(), allow_nan=False)
        assert len(finding.advice.splitlines()) == 2
    torch.manual_seed(0)
    assert diagnose(case(digits, False)) == []
