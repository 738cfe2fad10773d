"""Reading the loss functions off the graph behind a loss."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lampwork.taps.criterion import Criterion, criteria

N, C = 6, 4
head, column = nn.Linear(3, C), nn.Linear(3, 1)
inputs, classes, values = torch.randn(N, 3), torch.arange(N) % C, torch.rand(N)


def only(loss: Tensor) -> Criterion:
    """The one loss function of a loss."""
    (found,) = criteria(loss)
    return found


@pytest.mark.parametrize(
    "loss",
    [
        lambda: F.cross_entropy(head(inputs), classes),
        lambda: nn.CrossEntropyLoss(reduction="sum")(head(inputs), classes) / 3,
        lambda: F.nll_loss(F.log_softmax(head(inputs), -1), classes),
        lambda: F.cross_entropy(head(inputs), classes, label_smoothing=0.1),
        lambda: F.cross_entropy(F.log_softmax(head(inputs), 1), classes),
        lambda: F.cross_entropy(head(inputs)[None][0].double(), classes) + 0.1 * head.bias.norm(),
    ],
)  # fmt: skip
def test_a_cross_entropy_is_known_however_it_is_written(loss):
    """Classes, shape and targets come out the same, and nothing is accused of squashing twice."""
    found = only(loss())
    assert (found.name, found.classes, found.shape) == ("cross_entropy", C, (N, C))
    assert torch.equal(found.target, classes)
    assert (found.squashed, found.broadcast) == (None, None)


@pytest.mark.parametrize(
    ("loss", "squashed"),
    [
        (lambda: F.cross_entropy(head(inputs).softmax(1), classes), "softmax"),
        (lambda: F.cross_entropy(head(inputs).softmax(1).view(N, C).double(), classes), "softmax"),
        (
            lambda: F.cross_entropy(head(inputs).softmax(1), F.one_hot(classes, C).float()),
            "softmax",
        ),
        (lambda: F.cross_entropy(head(inputs), F.one_hot(classes, C).float()), None),
        (lambda: F.cross_entropy(head(inputs).softmax(1) * 8, classes), None),
        (
            lambda: F.binary_cross_entropy_with_logits(column(inputs).sigmoid()[:, 0], values),
            "sigmoid",
        ),
        (lambda: F.binary_cross_entropy_with_logits(column(inputs)[:, 0], values), None),
        (lambda: F.binary_cross_entropy(column(inputs).sigmoid()[:, 0], values), None),
        (lambda: F.kl_div(F.log_softmax(head(inputs), 1), head(inputs).softmax(1).detach()), None),
    ],
)
def test_probabilities_where_logits_are_asked_for(loss, squashed):
    """A softmax that reaches a softmax, a sigmoid that reaches a sigmoid; a scaled one does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [c.squashed for c in criteria(loss())] in ([squashed], [squashed] * 2)


def written_out(output: Tensor, target: Tensor) -> Tensor:
    """A squared error without a function for it."""
    return (output - target).pow(2).mean()


def the_other_way(output: Tensor, target: Tensor) -> Tensor:
    """An absolute error, target first."""
    return (target - output).abs().mean()


LOSSES = [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, written_out, the_other_way]
SHAPES = [
    *(((-1, 1), (-1,)), ((-1,), (-1, 1)), ((-1,), (-1,)), ((-1, 1), (-1, 1))),
    ((-1, 1), (1, 1)),
]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(LOSSES), st.integers(1, 5), st.sampled_from(SHAPES))
def test_shapes_that_stretch_each_other_are_told(loss_fn, count, shapes):
    """Exactly where broadcasting makes more elements than either side has."""
    output = column(torch.randn(count, 3)).reshape(shapes[0])
    target = torch.randn(count).reshape(shapes[1]) if -1 in shapes[1] else torch.randn(shapes[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [c.broadcast for c in criteria(loss_fn(output, target)) if c.broadcast]
    result = torch.broadcast_shapes(output.shape, target.shape)
    stretched = result.numel() > max(output.numel(), target.numel())
    assert found == ([(tuple(output.shape), tuple(target.shape), tuple(result))] * stretched)


@pytest.mark.parametrize(
    "loss",
    [
        lambda: (column(inputs)[:, 0][:, None] - values[None]).abs().mean(),
        lambda: (column(inputs) - column(inputs).T).relu().mean(),
        lambda: (head(inputs) - values[:, None]).abs().mean(),
        lambda: F.mse_loss(column(inputs).unsqueeze(-1)[..., 0], values[:, None]),
    ],
)
def test_pairs_that_are_meant_are_not_broadcast_by_mistake(loss):
    """`unsqueeze`, two outputs, and a target that alone is stretched are all on purpose."""
    assert [c.broadcast for c in criteria(loss()) if c.broadcast] == []


def test_nothing_that_was_packed_is_unpacked():
    """In a checkpointed loss the target stays unread, since reading it would compute it again."""
    calls = []

    def loss_fn(x: Tensor) -> Tensor:
        calls.append(1)
        return F.cross_entropy(head(x), classes)

    loss = checkpoint(loss_fn, inputs, use_reentrant=False)
    found = only(loss)
    assert (found.classes, found.target, len(calls)) == (C, None, 1)
    loss.backward()
    assert len(calls) == 2


def test_a_loss_without_a_graph_has_no_criterion():
    """A leaf, a constant and a sum of weights tell nothing, and raise nothing."""
    assert criteria(torch.zeros((), requires_grad=True)) == []
    assert criteria(torch.zeros(())) == []
    assert criteria(head.weight.square().sum()) == []
