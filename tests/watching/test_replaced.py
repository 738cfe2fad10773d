"""Models whose modules are added, replaced or removed while they are watched."""

from __future__ import annotations

import copy
import gc
import sqlite3
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lampwork.record import runs
from lampwork.taps.layout import Layout, difference
from tests.native.reference import assert_describes
from tests.watching.specimen import hooks_of
from tests.watching.training import (
    batches,
    hooks_anywhere,
    mlp,
    record_of,
    rows,
    seeded,
    sgd,
    train,
    watched,
)

X = batches(8, 5, 4)


def replace_the_head(model: nn.Sequential) -> None:
    """A head of another shape."""
    model[2] = nn.Linear(8, 3)


def replace_by_a_block(model: nn.Sequential) -> None:
    """Several layers in the place of one."""
    model[2] = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))


def replace_a_function(model: nn.Sequential) -> None:
    """A layer without parameters, which no optimizer tells of."""
    model[1] = nn.Tanh()


def append(model: nn.Sequential) -> None:
    """One layer more."""
    model.append(nn.Linear(2, 2))


def cut_off(model: nn.Sequential) -> None:
    """One layer less."""
    del model[2]


def give_another_weight(model: nn.Sequential) -> None:
    """The module stays, its parameter does not."""
    model[2].weight = nn.Parameter(torch.ones(2, 8))


CHANGES = [
    (replace_the_head, "replaced: 2"),
    (replace_by_a_block, "added: 2.0, 2.1, 2.2; removed: 2"),
    (replace_a_function, "replaced: 1"),
    (append, "added: 3"),
    (cut_off, "removed: 2"),
    (give_another_weight, ""),
]


def by_hand(model: nn.Module, x: Tensor) -> dict[tuple[str, str], Tensor]:
    """Outputs and their gradients, gradients of parameters and the parameters, by kind and name."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            outputs[name] = output

        return hook

    leaves = {name: m for name, m in model.named_modules() if not list(m.children()) or not name}
    handles = [m.register_forward_hook(keep(name)) for name, m in leaves.items()]
    loss = model(x).square().mean()
    for handle in handles:
        handle.remove()
    own = dict(model.named_parameters())
    found = torch.autograd.grad(loss, [*outputs.values(), *own.values()])
    gradients, grads = found[: len(outputs)], found[len(outputs) :]
    return {
        **{("output", name): value.detach() for name, value in outputs.items()},
        **{("grad_output", name): g for name, g in zip(outputs, gradients, strict=True)},
        **{("weight", name): p.detach().clone() for name, p in own.items()},
        **{("grad", name): g for name, g in zip(own, grads, strict=True)},
    }


def notes_of(run: Any) -> list[str]:
    """The lines of text in a record."""
    with sqlite3.connect(runs.database(run.path)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY rowid")]


@pytest.mark.parametrize(("every", "after"), [(1, 3), (2, 3), (2, 4)])
@pytest.mark.parametrize(("change", "told"), CHANGES)
def test_what_takes_its_place_is_watched(tmp_path, change, told, every, after, caplog):
    """From the first recorded step on outputs, parameters and all gradients are those of the new
    modules, and names that are gone have no rows; old modules have no hooks and are let go.
    """
    model = seeded(mlp)
    expected = []
    old = [weakref.ref(module) for module in model]
    with watched(model, tmp_path, every=every) as run:
        optimizer = sgd(model)
        for i, x in enumerate(X):
            if i == after:
                change(model)
                optimizer = sgd(model)
            expected.append(by_hand(copy.deepcopy(model), x))
            train(model, optimizer, [x])
        gc.collect()
        gone = [ref() for ref in old if ref() is not None and ref() not in list(model.modules())]
        assert gone == []
        if every == 1:  # a step is awaited, with hooks on all that it will call
            assert all(hooks_of(module) for module in model)
    record = record_of(run)
    for i, step in enumerate(record.steps.tolist()):
        for tensor in record.tensors:
            if tensor.kind in ("output", "grad_output", "weight", "grad"):
                found = record.summary(tensor).rows[i]
                value = expected[step].get((tensor.kind, tensor.name))
                if value is None:
                    assert np.isnan(found).all(), (step, tensor.kind, tensor.name)
                else:
                    assert_describes(found, value)
    last = {key: tuple(value.shape) for key, value in expected[-1].items()}
    assert {key: record.find(key[1], key[0]).shape for key in last} == last
    assert notes_of(run) == ([f"modules of the model {told}"] if told else [])
    assert hooks_anywhere(model) == []
    assert caplog.records == []


def test_a_new_head_that_no_optimizer_knows_is_told(tmp_path):
    """The optimizer still steps the old head: the record says that the new one belongs to none."""
    model = seeded(mlp)
    optimizer = sgd(model)
    with watched(model, tmp_path) as run:
        train(model, optimizer, X[:3])
        model[2] = nn.Linear(8, 3)
        train(model, optimizer, X[3:])
    record = record_of(run)
    optimized = {t.name: t.facts["optimized"] for t in record.of_kind("weight")}
    assert optimized == {"0.weight": True, "0.bias": True, "2.weight": False, "2.bias": False}
    assert np.isfinite(rows(record, "2.weight", "grad")).all()
    assert (
        np.isfinite(rows(record, "2.weight", "update")[:, 0]).tolist() == [True] * 3 + [False] * 5
    )


class ByParts(nn.Module):
    """Never called as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)


def test_parts_of_a_model_that_is_never_called_as_a_whole(tmp_path):
    """A new part is noticed at the step after its first call, and seen from then on."""
    model = seeded(ByParts)
    with watched(model, tmp_path) as run:
        for i, x in enumerate(X):
            if i == 3:
                model.head = nn.Linear(8, 3)
            optimizer = sgd(model)
            model.head(model.body(x)).square().mean().backward()
            optimizer.step()
    counts = rows(record_of(run), "head", "output")[:, 0]
    np.testing.assert_array_equal(counts, [10, 10, 10, np.nan, 15, 15, 15, 15])
    assert rows(record_of(run), "head.bias", "grad")[:, 0].tolist() == [2] * 3 + [3] * 5


@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
@pytest.mark.parametrize("every", [1, 2])
def test_a_compiled_model_is_watched_on(tmp_path, every, caplog):
    """Torch compiles the new layer before anybody can notice it; then compiles anew, with hooks.

    The first recorded step lacks its rows, the next one has them.
    """
    torch.compiler.reset()
    model = seeded(mlp)
    with watched(model, tmp_path, every=every) as run:
        compiled = torch.compile(model, backend="eager")
        train(compiled, sgd(model), X[:4])
        model[2] = nn.Linear(8, 3)
        train(compiled, sgd(model), X[4:6])
        expected = by_hand(copy.deepcopy(model), X[6])
        train(compiled, sgd(model), X[6:])
    at = record_of(run).steps.tolist().index(6)
    for kind, name in [(kind, name) for kind in ("output", "grad_output") for name in "012"]:
        assert_describes(rows(record_of(run), name, kind)[at], expected[kind, name])
    counts = rows(record_of(run), "2", "output")[:, 0].tolist()
    assert len(counts) - counts.count(15) - counts.count(10) == 1
    assert hooks_anywhere(model) == []
    assert [record for record in caplog.records if record.name == "lampwork"] == []
    torch.compiler.reset()


def test_a_layout_that_stays_is_no_change():
    """Training, moving and copying values change nothing; what differs is told by name once."""
    model = seeded(mlp)
    layout = Layout(model)
    train(model, sgd(model), X)
    model.double().requires_grad_(False)
    assert not layout.changed()
    before = dict(model.named_modules())
    replace_by_a_block(model)
    assert [layout.changed(), layout.changed()] == [True, False]
    after = dict(model.named_modules())
    assert difference(before, after) == "replaced: 2; added: 2.0, 2.1, 2.2"
