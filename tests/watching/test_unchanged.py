"""Training is the same with and without us, to the last bit, and nothing of ours stays behind."""

import copy
import pickle
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from lampwork._core.summary import COLUMN
from lampwork.watching import activations, reading, recorder, snapshots
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
from tests.watching.zoo import ZOO


def dropout_net():
    """A small convolutional net with all that draws random numbers or keeps statistics."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.3),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.Dropout(0.5),
        nn.Linear(8, 2),
    )


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
}


def state_after(model, optimizer, losses):
    """Everything that training leaves: weights, buffers, optimizer, random states, losses."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    for i, values in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{i}.{key}": torch.as_tensor(v) for key, v in values.items()}
    state["random.torch"] = torch.get_rng_state()
    state["random.numpy"] = torch.from_numpy(np.random.get_state()[1].astype(np.int64))
    state["random.python"] = torch.tensor(random.getstate()[1])
    return state | {"losses": torch.tensor(losses)}


def trained(make, steps=20, run=None, log=False):
    """Twenty steps of a net with dropout, with a validation pass now and then."""
    model = seeded(dropout_net)
    optimizer, losses = make(model.parameters()), []
    random.seed(0)
    np.random.seed(0)
    with run(model) if run else torch.enable_grad() as session_of_run:
        for i, x in enumerate(batches(steps, 6, 1, 6, 6)):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if log and run:
                session_of_run.log(loss=loss)
            if i % 6 == 5:
                model.eval()
                with torch.no_grad():
                    losses.append(model(x).sum().item())
                model.train()
    assert hooks_anywhere(model) == []
    return state_after(model, optimizer, losses)


def assert_same(a, b):
    """Two states are equal in every bit."""
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("every", [1, 3])
def test_twenty_steps_are_bitwise_the_same(tmp_path, make, every):
    """Weights, buffers, optimizer state, losses and random states are those of the bare loop."""
    bare = trained(make)
    seen = trained(make, run=lambda model: watched(model, tmp_path, every=every), log=True)
    assert_same(bare, seen)


def test_twenty_steps_under_a_budget_are_bitwise_the_same(tmp_path):
    """However the clock decides which steps are recorded, training does not depend on it."""
    make = OPTIMIZERS["SGD"]
    seen = trained(make, run=lambda model: watched(model, tmp_path, budget=0.3))
    assert_same(trained(make), seen)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("specimen", ZOO.values(), ids=ZOO)
def test_no_architecture_notices(tmp_path, specimen, caplog):
    """Each model of the zoo trains two steps as without us, is recorded, and keeps no hook."""
    found, counts = [], []
    for watching in (False, True):
        model = specimen.model()
        hooks = len(hooks_anywhere(model))
        run = watched(model, tmp_path)
        if watching:
            run.start()
        optimizer = None
        for _ in range(2):
            loss = specimen.loss(model)
            # Not earlier: a lazy module has its parameters after the first forward.
            optimizer = optimizer or sgd(model, lr=0.01)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.stop()
        counts.append(len(hooks_anywhere(model)) - hooks)
        found.append(state_after(model, optimizer, [loss.item()]))
    assert_same(*found)
    # A lazy module takes its own hooks off in its first forward.
    assert counts[0] == counts[1]
    assert caplog.records == []
    record = record_of(run)
    assert record.steps.tolist() == [0, 1]
    assert any(np.isfinite(record.summary(t).count).all() for t in record.of_kind("output"))


def test_between_recorded_steps_no_module_has_a_hook(tmp_path):
    """Hooks are on the modules for steps 0 and 3 only; the optimizer's are there throughout."""
    model = seeded(mlp)
    optimizer, on_modules = sgd(model), []
    with watched(model, tmp_path, every=3):
        for x in batches(5, 5, 4):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            on_modules.append(any(m._forward_hooks or m._forward_pre_hooks for m in model))
            loss.backward()
            optimizer.step()
            assert len(hooks_anywhere(model)) >= 2
    assert on_modules == [True, False, False, True, False]
    assert hooks_anywhere(model) == []


@pytest.mark.parametrize("fails_in", ["forward", "backward", "step", "loop"])
def test_no_hook_is_left_after_an_exception(tmp_path, fails_in):
    """An exception of the training code passes unchanged, and hooks are gone wherever it came."""
    model = seeded(mlp)
    optimizer = sgd(model)
    x = batches(1, 5, 4)[0]

    def fail(*_):
        raise ArithmeticError("the user's")

    run = watched(model, tmp_path)

    def training():
        with run:
            train(model, optimizer, [x])
            if fails_in == "forward":
                model[2].forward = fail
            output = model(x)
            outputs.append(output)
            if fails_in == "backward":
                output.register_hook(fail)
            output.square().mean().backward()
            if fails_in == "step":
                optimizer.register_step_post_hook(fail)
            optimizer.step()
            fail()

    outputs = []
    with pytest.raises(ArithmeticError, match="the user's"):
        training()
    assert hooks_anywhere(model) == []
    mine = fails_in == "backward"
    assert [len(output._backward_hooks or ()) for output in outputs] in ([], [mine])
    record = record_of(run)
    assert record.steps.tolist()[0] == 0
    assert record.meta["finished"] is True


BROKEN = {
    "an output": (activations, "measure_with_channels"),
    "a gradient": (activations, "measure"),
    "a parameter": (reading.Reading, "add"),
    "the transfer": (recorder.Ledger, "table"),
    "the pictures": (recorder.Snapshots, "take"),
    "the file": (recorder.Writer, "step"),
}


@pytest.mark.parametrize("place", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("after", [0, 1, 7])
def test_an_error_of_ours_ends_watching_and_not_the_training(
    tmp_path, monkeypatch, caplog, place, after
):
    """Wherever our own code fails, it is told once and training goes on to equal results."""
    make = OPTIMIZERS["Adam"]
    bare = trained(make)
    owner, name = place
    works, left = getattr(owner, name), [after]

    def sometimes(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise ZeroDivisionError("ours")
        return works(*args, **kwargs)

    monkeypatch.setattr(owner, name, sometimes)
    monkeypatch.setattr(snapshots, "SHARE", float("inf"))
    runs = []

    def run(model):
        runs.append(watched(model, tmp_path))
        # A second one, whose hooks come after those that fail.
        runs.append(watched(model, tmp_path))
        return Both(*runs)

    assert_same(bare, trained(make, run=run, log=True))
    told = [r for r in caplog.records if "watching ends" in r.getMessage()]
    assert 1 <= len(told) <= 2
    for one in runs:
        record = record_of(one)
        # What the user logs goes on, with its own steps.
        assert record.meta["steps"] == 20
        assert record.scalar("loss")[0].tolist() == list(range(20))


class Both:
    """Two runs as one context."""

    def __init__(self, first, second):
        self.first, self.second = first, second

    def __enter__(self):
        """Start both."""
        self.first.start()
        self.second.start()
        return self

    def __exit__(self, *error):
        """Stop both."""
        self.second.stop()
        self.first.stop()

    def log(self, **scalars):
        """Log to both."""
        self.first.log(**scalars)
        self.second.log(**scalars)


def test_an_optimizer_that_cannot_be_read_ends_watching_and_not_the_training(tmp_path, caplog):
    """Where not even the steps can be counted, that is told once, and training goes on."""
    model, twin = seeded(mlp), seeded(mlp)

    class Odd(torch.optim.SGD):
        def __getattribute__(self, name):
            if name == "param_groups" and sys._getframe(1).f_code.co_name.startswith("owned_by"):
                raise AttributeError("not for you")
            return super().__getattribute__(name)

    data = batches(3, 5, 4)
    with watched(model, tmp_path) as run:
        train(model, Odd(model.parameters(), lr=0.1), data)
    train(twin, sgd(twin), data)
    assert all(map(torch.equal, model.parameters(), twin.parameters()))
    assert len(caplog.records) == 1
    assert hooks_anywhere(model) == []
    assert record_of(run).meta["steps"] == 0


def test_two_watches_on_one_model_see_the_same(tmp_path):
    """Each has its own record, with equal rows; ending one leaves the other at work."""
    model = seeded(mlp)
    first, second = watched(model, tmp_path), watched(model, tmp_path, every=2)
    data = batches(5, 5, 4)
    with first:
        with second:
            train(model, sgd(model), data[:3])
        train(model, sgd(model), data[3:])
    one, two = record_of(first), record_of(second)
    assert one.path != two.path
    assert one.steps.tolist() == [0, 1, 2, 3, 4]
    assert two.steps.tolist() == [0, 2]
    for tensor in two.tensors:
        ours, theirs = (rows(record, tensor.name, tensor.kind) for record in (one, two))
        np.testing.assert_array_equal(ours[[0, 2]], theirs)
    assert hooks_anywhere(model) == []


def test_hooks_of_the_user_stay(tmp_path):
    """Hooks that were there before, or came meanwhile, are called and left alone."""
    model, mine = seeded(mlp), []
    optimizer = sgd(model)
    model[0].register_forward_hook(lambda *_: mine.append("before"))
    with watched(model, tmp_path):
        model[0].register_forward_hook(lambda *_: mine.append("meanwhile"))
        model[0].weight.register_hook(lambda gradient: mine.append("gradient"))
        train(model, optimizer, batches(2, 5, 4))
    train(model, optimizer, batches(1, 5, 4))
    assert mine == ["before", "meanwhile", "gradient"] * 3


def copied(model):
    """The model's copy."""
    return copy.deepcopy(model)


def pickled(model):
    """The model, saved and loaded again."""
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("again", [copied, pickled])
def test_a_copy_of_a_watched_model_is_not_watched(tmp_path, again, caplog):
    """An average of the weights or a saved model, made inside the block, is a model on its own."""
    model = seeded(mlp)
    data = batches(4, 5, 4)
    with watched(model, tmp_path) as run:
        before = again(model)
        train(model, sgd(model), data[:2])
        after = again(model)
        for other in (before, after):
            train(other, sgd(other), data)
        train(model, sgd(model), data[2:])
    for other in (before, after):
        train(other, sgd(other), data)
        assert b"lampwork" not in pickle.dumps(other)
    record = record_of(run)
    assert record.steps.tolist() == [0, 1, 2, 3]
    assert {tensor.call for tensor in record.tensors} == {1}
    assert [note["forwards"] for note in record.notes] == [1] * 4
    assert caplog.records == []


def test_a_saved_output_brings_no_warning(tmp_path):
    """Tensors that the user pickles inside the block are saved without a word about hooks."""
    model = seeded(mlp)
    with watched(model, tmp_path):
        output = model(batches(1, 5, 4)[0])
        assert torch.equal(pickle.loads(pickle.dumps(output)), output)


@pytest.mark.filterwarnings("ignore")  # of torch's compiler, about itself
def test_a_model_may_be_compiled_inside_the_block(tmp_path):
    """Compiled after the watch began, a step is recorded as without, but for what a graph hides.

    That is what enters the model, and which channels are silent. Sums are added in another order;
    all else is equal to the last bit.
    """
    found = {}
    for compiled in (False, True):
        model = seeded(mlp)
        with watched(model, tmp_path, every=2) as run:
            trained_model = torch.compile(model, backend="eager") if compiled else model
            train(trained_model, sgd(model), batches(5, 5, 4))
        record = record_of(run)
        assert record.steps.tolist() == [0, 2, 4]
        # What enters the model is inside of the graph, where only outputs are read.
        seen = [t for t in record.tensors if t.kind != "input"]
        found[compiled] = {t.label + t.kind: rows(record, t.name, t.kind) for t in seen}
    assert found[True].keys() == found[False].keys()
    for key, expected in found[False].items():
        one, other = found[True][key].copy(), expected.copy()
        for column in ("units", "dead"):
            one[:, COLUMN[column]] = other[:, COLUMN[column]] = 0
        for column in ("sum", "sumsq"):
            at = COLUMN[column]
            np.testing.assert_allclose(
                one[:, at], other[:, at], rtol=1e-12, atol=1e-14, err_msg=key
            )
            one[:, at] = other[:, at] = 0
        np.testing.assert_array_equal(one, other, err_msg=key)
