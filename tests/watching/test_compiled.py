"""Watching a model under torch.compile: two graphs, the same weights, the rows of eager."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from lampwork._core.errors import InputError
from lampwork._core.summary import COLUMN
from lampwork.record.reader import Record
from lampwork.taps import compiled
from tests.watching.specimen import hooks_of
from tests.watching.training import batches, record_of, seeded, sgd, train, watched

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's compiler, about itself


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No code of another test, nor any for the next one."""
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


class Net(nn.Module):
    """A layer that is called twice, activations in place, a tuple from inside, a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.relu, self.b = nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)
        self.split = Halves()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.a(self.relu(self.a(x))))
        left, right = self.split(x)
        return self.b(torch.cat([left, torch.utils.checkpoint.checkpoint(torch.tanh, right)], 1))


class Halves(nn.Module):
    """Two views."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :2], x[:, 2:]


def trained(path: Any, *, backend: str = "", watch: bool = True, steps: int = 21) -> Any:
    """The weights, and the record of every fifth step."""
    model = seeded(Net)
    run = watched(model, path, every=5, pictures=False).start() if watch else None
    called: Any = torch.compile(model, backend=backend, fullgraph=True) if backend else model
    train(called, sgd(model, momentum=0.9), batches(steps, 3, 4))
    if run is not None:
        run.stop()
    assert hooks_of(model) == []
    return [p.detach().clone() for p in model.parameters()], run and record_of(run)


def assert_alike(found: Record, expected: Record) -> None:
    """The same tensors, and the same bits in their rows."""
    assert {tensor.key for tensor in found.tensors} == {tensor.key for tensor in expected.tensors}
    assert found.steps.tolist() == expected.steps.tolist()
    others = {tensor.key: tensor for tensor in found.tensors}
    for tensor in expected.tensors:
        other = others[tensor.key]
        assert (other.shape, other.dtype) == (tensor.shape, tensor.dtype)
        if tensor.kind != "input":  # which layer it feeds is not asked of a graph
            assert other.facts == tensor.facts
        ours, theirs = (r.summary(t).rows.copy() for r, t in ((found, other), (expected, tensor)))
        # Silent channels are not looked for in a graph.
        ours[:, [COLUMN["units"], COLUMN["dead"]]] = theirs[:, [COLUMN["units"], COLUMN["dead"]]]
        np.testing.assert_array_equal(ours, theirs, err_msg=str(tensor.key))


def test_a_compiled_model_has_two_graphs_the_same_weights_and_the_rows_of_eager(tmp_path):
    """Fullgraph holds over recorded steps and others; not a bit of a weight is another one."""
    weights, _ = trained(tmp_path, backend="aot_eager", watch=False)
    counters.clear()
    torch.compiler.reset()
    watched_weights, record = trained(tmp_path, backend="aot_eager")
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]
    assert all(map(torch.equal, weights, watched_weights))
    torch.compiler.reset()
    _, eager = trained(tmp_path)
    assert_alike(record, eager)


@patch("torch._functorch.config.donated_buffer", False)  # as torch demands for `retain_graph`
def test_micro_batches_of_a_compiled_model_are_merged(tmp_path):
    """A row is that of all forward passes of the step together, also where a graph is kept and run
    backward twice: what then cannot be told apart is left out.
    """
    model = seeded(Net)
    optimizer = sgd(model)
    with watched(model, tmp_path, every=1, pictures=False) as run:
        called: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
        for x in batches(2, 3, 4):
            called(x).square().mean().backward()
        optimizer.step()
        loss = called(x).square().mean()
        loss.backward(retain_graph=True)
        loss.backward()
        optimizer.step()
    record = record_of(run)
    (output,) = (t for t in record.of_kind("output") if (t.name, t.call) == ("a", 2))
    assert record.summary(output).count.tolist() == [24, 0]


def test_a_model_whose_class_was_compiled_and_called_before_is_refused(tmp_path):
    """Torch would run the code that it has, without hooks, whichever instance it was made for."""
    torch.compile(seeded(Net), backend="eager")(torch.ones(2, 4))
    message = r"'Net' runs code that torch compiled before.*torch\.compiler\.reset\(\) first"
    with pytest.raises(InputError, match=message):
        watched(seeded(Net), tmp_path)
    torch.compiler.reset()
    watched(seeded(Net), tmp_path)


def test_a_model_that_was_compiled_inside_of_a_function_is_told_of(tmp_path, caplog):
    """Where the code cannot be found beforehand, the first recorded step tells, and once."""
    model: Any = seeded(Net)
    called: Any = torch.compile(lambda x: model(x), backend="eager")
    called(torch.ones(5, 4))
    with watched(model, tmp_path, every=1, pictures=False) as run:
        train(called, sgd(model), batches(3, 5, 4))
    told = [record.message for record in caplog.records if record.name == "lampwork"]
    assert len(told) == 1
    assert "no layer of Net is seen" in told[0]
    assert {t.kind for t in record_of(run).tensors} == {"weight", "grad", "update"}


def test_recorded_steps_without_a_compiler_make_no_tensors_for_it(monkeypatch):
    """The leaves of hooks that torch.compile has not traced are made once, not at each step."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    made: list[Any] = []
    leaf = compiled._leaf
    monkeypatch.setattr(compiled, "_leaf", lambda device: made.append(device) or leaf(device))
    taps = compiled.CompiledTaps(model, dict(model.named_modules()))
    for _ in range(3):
        taps.install()
        taps.remove()
    assert len(made) == 3 * compiled._MOST
    model.to(torch.float64).to("meta")
    taps.install()
    assert {device.type for device in made[len(made) // 2 :]} == {"meta"}
    taps.remove()


def test_rows_come_from_where_a_layer_without_parameters_computes():
    """Such a layer does not tell its device, and autograd refuses a gradient from another one."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Flatten(0)).to("meta")
    taps = compiled.CompiledTaps(model, dict(model.named_modules()))
    taps.install()
    taps.on = True
    torch.compile(model, backend="aot_eager")(torch.ones(3, 2, device="meta")).sum().backward()
    read = {read.name: read.gradient.device.type for read in taps.take()}
    assert read == dict.fromkeys(["", "0", "1", "2"], "meta")
    taps.remove()


class _Puts(TorchDispatchMode):
    """Counts numbers of Python that become part of a tensor that exists, which waits on CUDA."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
        return func(*args, **(kwargs or {}))


def test_rows_are_taken_from_a_graph_without_a_copy_from_the_host():
    """A number put into a tensor is such a copy, and a device has to be waited for then."""
    row = torch.zeros(2, compiled.WIDTH + compiled.SIZES, dtype=torch.float64, device="meta")
    with _Puts() as puts:
        torch.zeros(2, device="meta")[0] = 1.0
        assert puts.count == 1
        assert len(compiled._reads([("a", 1, 0, "torch.float32")], [row])) == 1
    assert puts.count == 1
