"""What a watch holds on to: no graph, no tensor of a step, and nothing of the model afterwards."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.watching.training import batches, hooks_anywhere, mlp, record_of, seeded, sgd, watched


class Kept:
    """Weak references to whatever a step makes: inputs, outputs inside and out, loss and graph."""

    def __init__(self) -> None:
        self.refs: dict[str, weakref.ref[Any]] = {}

    def add(self, name: str, thing: Any) -> None:
        """One thing."""
        self.refs[name] = weakref.ref(thing)

    def alive(self) -> list[str]:
        """Names of those that somebody holds, found without collecting garbage."""
        return [name for name, ref in self.refs.items() if ref() is not None]


class Marked(torch.autograd.Function):
    """An identity whose node in the graph holds something that can be referred to weakly."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark = Mark()
        MARKS.append(weakref.ref(ctx.mark))
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Mark:
    """Lives as long as its node of the graph."""


MARKS: list[weakref.ref[Mark]] = []


class Net(nn.Module):
    """Keeps weak references to what its layers give."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.kept = mlp(), Kept()

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.body[0](x))
        self.kept.add("hidden", hidden)
        output = Marked.apply(self.body[2](self.body[1](hidden)))
        self.kept.add("output", output)
        return output


def one_step(model: Net, optimizer: torch.optim.Optimizer, x: Tensor, kind: str) -> None:
    """A step, or a pass that comes to no step."""
    x = x.clone()
    model.kept.add("input", x)
    output = model(x)
    loss = output.square().mean()
    model.kept.add("loss", loss)
    if kind == "no backward":
        return
    loss.backward()
    if kind == "no step":
        optimizer.zero_grad()
        return
    for name, parameter in model.named_parameters():
        model.kept.add(f"gradient of {name}", parameter.grad)
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("kind", ["step", "no backward", "no step"])
def test_what_a_step_made_is_let_go_with_it(tmp_path, every, kind):
    """As soon as the training loop lets go of them, recorded or not, and without the garbage
    collector: outputs and graphs have no cycles, and get none from us.
    """
    MARKS.clear()
    model = seeded(Net)
    optimizer = sgd(model, momentum=0.9)
    gc.disable()
    try:
        with watched(model, tmp_path, every=every) as run:
            for i, x in enumerate(batches(6, 5, 4)):
                one_step(model, optimizer, x, kind if i == 3 else "step")
                assert model.kept.alive() == []
                assert [mark for mark in MARKS if mark() is not None] == []
    finally:
        gc.enable()
    assert len(MARKS) >= 6  # and those of the pictures
    assert record_of(run).meta["steps"] == (6 if kind == "step" else 5)


@pytest.mark.parametrize("ends", ["in order", "by an error of the user's", "before any step"])
def test_nothing_of_the_model_is_held_after_the_end(tmp_path, ends):
    """Also not by a run that is kept for its findings: model, weights, optimizer and batches."""
    kept = Kept()
    model = seeded(Net)
    optimizer = sgd(model)
    run = watched(model, tmp_path)
    try:
        with run:
            for x in batches(0 if ends == "before any step" else 3, 5, 4):
                kept.add("batch", x)
                one_step(model, optimizer, x, "step")
            if ends == "by an error of the user's":
                model(torch.ones(5, 4))
                raise ArithmeticError
    except ArithmeticError:
        pass
    assert hooks_anywhere(model) == []
    kept.add("model", model)
    kept.add("optimizer", optimizer)
    for name, parameter in model.named_parameters():
        kept.add(name, parameter)
    x = None
    del model, optimizer, parameter, x
    gc.collect()
    assert kept.alive() == []
    assert run.path is not None
    assert "Net" in repr(run)
    assert "Net" in run._repr_html_()
