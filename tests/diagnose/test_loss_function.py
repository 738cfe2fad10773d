"""Losses that are given what they do not ask for, in real training and beside their twins."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lampwork.diagnose import diagnose
from lampwork.record.reader import Record
from tests.diagnose.digits import Digits, adam, mlp, sgd


def softmax_in_the_model(digits: Digits, faulty: bool) -> Record:
    """A Softmax as the last module, and cross-entropy."""
    model = mlp(64, 64, 10)
    model.append(nn.Softmax(1) if faulty else nn.LogSoftmax(1))
    return digits.train(model, adam(model))


def softmax_as_a_function(digits: Digits, faulty: bool) -> Record:
    """The same in the training loop."""
    model = mlp(64, 64, 10)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output.softmax(1) if faulty else output, y)

    return digits.train(model, sgd(model), loss=loss)


def sigmoid_twice(digits: Digits, faulty: bool) -> Record:
    """A Sigmoid as the last module, and the loss that has one of its own."""
    model = mlp(64, 64, 1)
    model.append(nn.Sigmoid())
    fit = F.binary_cross_entropy_with_logits if faulty else F.binary_cross_entropy
    return digits.train(model, sgd(model), loss=lambda p, y: fit(p[:, 0], (y > 4).float()))


def column_against_row(digits: Digits, faulty: bool) -> Record:
    """Outputs of shape (N, 1), targets of shape (N,)."""
    model = mlp(64, 32, 1)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        target = y.float() / 9
        return F.mse_loss(output, target if faulty else target[:, None])

    return digits.train(model, adam(model), loss=loss)


def column_against_row_written_out(digits: Digits, faulty: bool) -> Record:
    """The same where torch does not warn."""
    model = mlp(64, 32, 1)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return ((output if faulty else output[:, 0]) - y.float() / 9).square().mean()

    return digits.train(model, adam(model), loss=loss)


@pytest.mark.parametrize(
    ("case", "code", "where"),
    [
        (softmax_in_the_model, "loss-double-softmax", "3"),
        (softmax_as_a_function, "loss-double-softmax", None),
        (sigmoid_twice, "loss-double-softmax", "3"),
        (column_against_row, "loss-broadcast", None),
        (column_against_row_written_out, "loss-broadcast", None),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_loss_that_is_fed_wrongly_is_named_first(digits, case, code, where):
    """The finding names the module that squashes; the twin passes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = diagnose(case(digits, True))
    assert (found[0].code, found[0].where, found[0].step) == (code, where, 0)
    assert len(found[0].advice.splitlines()) == 2
    torch.manual_seed(0)
    assert diagnose(case(digits, False)) == []
