"""Layers in a plain list are seen although the model does not own them."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from lampwork.diagnose import diagnose
from lampwork.watching.strays import Strays
from tests.watching.training import batches, record_of, seeded, train, watched


class Holder(nn.Module):
    """Two layers of its own, and others in a container of some kind."""

    def __init__(self, container) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)
        self.hidden = container([nn.Linear(8, 8), nn.Linear(8, 8)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        for layer in self.hidden.values() if isinstance(self.hidden, dict) else self.hidden:
            x = torch.relu(layer(x))
        return self.last(x)


def keyed(layers):
    """The layers in a dict."""
    return {f"h{i}": layer for i, layer in enumerate(layers)}


def found_in(tmp_path, model, parameters):
    """What the verdict says of a short run in which the optimizer has those parameters."""
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    with watched(model, tmp_path, every=2) as run:
        train(model, optimizer, batches(7, 5, 4))
    return diagnose(record_of(run))


@pytest.mark.parametrize(
    ("container", "name"),
    [(list, "hidden.0.weight"), (tuple, "hidden.0.weight"), (keyed, "hidden.h0.weight")],
)
def test_a_layer_in_a_plain_container_is_named(tmp_path, container, name):
    """It gets gradients, and no optimizer knows it."""
    model = seeded(lambda: Holder(container))
    (first,) = found_in(tmp_path, model, model.parameters())
    assert (first.code, first.where, first.evidence["count"]) == ("optim-missing-params", name, 4)
    assert "self.hidden = torch.nn.ModuleList(self.hidden)" in first.advice


def test_a_registered_list_is_no_finding(tmp_path):
    """The mended twin: the same layers in a ModuleList."""
    model = seeded(lambda: Holder(nn.ModuleList))
    assert found_in(tmp_path, model, model.parameters()) == []


def test_hidden_layers_that_are_trained_or_frozen_are_no_finding(tmp_path):
    """Kept out of the state dict on purpose: handed to the optimizer by hand, or frozen."""
    model = seeded(lambda: Holder(list))
    hidden = [p for layer in model.hidden for p in layer.parameters()]
    assert found_in(tmp_path, model, [*model.parameters(), *hidden]) == []
    for p in hidden:
        p.requires_grad_(False)
    assert found_in(tmp_path, model, model.parameters()) == []


def test_a_layer_that_is_hidden_later_is_named(tmp_path):
    """Modules are searched now and then, not once."""
    model = seeded(lambda: Holder(lambda layers: []))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watched(model, tmp_path, every=1) as run:
        train(model, optimizer, batches(3, 5, 4))
        model.hidden.append(nn.Linear(8, 8))
        train(model, optimizer, batches(20, 5, 4))
    (first,) = diagnose(record_of(run))
    assert (first.code, first.where) == ("optim-missing-params", "hidden.0.weight")


def test_a_layer_that_is_dropped_is_let_go():
    """Nothing of it is kept alive between two searches."""
    model = Holder(list)
    strays = Strays(model)
    strays.look()
    weight = weakref.ref(model.hidden[0].weight)
    model.hidden.clear()
    gc.collect()
    assert weight() is None
    strays.look()
