"""Which layer feeds which: what hands values on, and what ends it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from lampwork.taps.trace import Feed, trace


class Three(nn.Module):
    """Three layers, and a forward that is given."""

    def __init__(self, forward, build=lambda: nn.Linear(4, 4)):
        super().__init__()
        self.a, self.b, self.c = build(), build(), build()
        self._function = forward

    def forward(self, x):
        return self._function(self, x)


def _feeds(forward, build=lambda: nn.Linear(4, 4), shape=(2, 4)):
    feeds = trace(Three(forward, build), torch.randn(shape)).feeds
    return {taker: feed for taker, feed in feeds.items() if feed.alone}


A_TO_B = {"b.weight": Feed("a.weight", "relu")}


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.b(F.relu(m.a(x))),
        lambda m, x: m.b(F.relu(m.a(x), inplace=True)),
        lambda m, x: m.b(m.a(x).relu_()),
        lambda m, x: m.b(F.dropout(torch.relu(m.a(x)), 0.5, m.training)),
        lambda m, x: m.b(m.a(x).contiguous().clamp(min=0).to(torch.float32)),
        lambda m, x: F.linear(F.relu(m.a(x)), m.b.weight, m.b.bias),
        lambda m, x: (m.b(F.relu(h := m.a(x))), h.shape)[0],
    ],
)
def test_a_layer_feeds_the_next_through_an_activation(forward):
    """However it is called, through dropout and casts, and asking for a shape takes nothing."""
    assert _feeds(forward) == A_TO_B


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.b(m.a(x)),
        lambda m, x: m.b(F.relu(torch.tanh(m.a(x)))),
        lambda m, x: m.b(F.relu(m.a(x)) + 1),
        lambda m, x: m.b(F.relu(m.a(x)) + x),
        lambda m, x: m.b(F.relu(m.a(x) * x)),
        lambda m, x: m.b(F.relu(F.layer_norm(m.a(x), (4,)))),
        lambda m, x: m.b(F.relu(m.a(x)).flip(-1)),
        lambda m, x: m.b(h := F.relu(m.a(x))) + h,
        lambda m, x: (m.b(h := F.relu(m.a(x))), h),
        lambda m, x: (m.b(F.relu(h := m.a(x))), torch.sigmoid(h)),
        lambda m, x: {"out": m.b(h := F.relu(m.a(x))), "hidden": [h]},
        lambda m, x: m.b(F.relu(m.a(F.relu(m.a(x))))),
        lambda m, x: m.b(F.relu(m.a(x))) + m.b(x),
    ],
)
def test_whatever_else_happens_to_the_values_ends_it(forward):
    """No activation, two of them, sums, norms, another order, other takers, a second call."""
    assert _feeds(forward) == {}


def test_a_layer_may_feed_two_others():
    """Both take all that it gives, and nobody else does."""
    feeds = _feeds(lambda m, x: m.b(h := F.gelu(m.a(x))) + m.c(h))
    assert feeds == {name: Feed("a.weight", "gelu") for name in ("b.weight", "c.weight")}


def test_convolutions_feed_one_another_through_padding_and_average_pooling():
    """Both work on each channel alone and leave differences of channels what they are."""

    def forward(m, x):
        x = F.pad(F.leaky_relu(m.a(x), 0.2), (1, 1, 1, 1))
        return m.c(F.max_pool2d(F.relu(m.b(F.avg_pool2d(x, 2))), 1))

    feeds = _feeds(forward, lambda: nn.Conv2d(3, 3, 1), (1, 3, 4, 4))
    assert feeds == {"b.weight": Feed("a.weight", "leaky_relu", 0.2)}


def test_a_parametrised_weight_is_told_by_the_first_of_its_raw_names():
    """As in the other answers of a trace."""
    feeds = _feeds(
        lambda m, x: m.b(F.relu(m.a(x))), lambda: parametrizations.weight_norm(nn.Linear(4, 4))
    )
    raw = "parametrizations.weight.original0"
    assert feeds == {f"b.{raw}": Feed(f"a.{raw}", "relu")}
