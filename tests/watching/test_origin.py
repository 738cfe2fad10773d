"""The module that first gives NaN is named also where its step is not recorded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lampwork.diagnose import diagnose
from tests.watching.training import record_of, seeded, sgd, watched


class Log(nn.Module):
    """Its logarithm is minus infinity where the input is zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(x)


class Standardise(nn.Module):
    """Division by a deviation that may be zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)


class Softmax(nn.Module):
    """Exponentials that overflow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        e = torch.exp(x)
        return e / e.sum(1, keepdim=True)


class Nested(nn.Module):
    """The fault lies in a function of the inner module's own forward, between two of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.inner(x)))


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(torch.exp(self.before(x)) - 1)


class Twice(nn.Module):
    """The same layer before and after what makes its second call give NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.root, self.layer = Root(), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.root(self.layer(self.root(x)) - 100.0 * (x > 5.0))


class Root(nn.Module):
    """A square root."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(x)


def chain(module: nn.Module) -> nn.Module:
    """A model with the module at "1"."""
    return nn.Sequential(nn.Linear(4, 4), module, nn.Linear(4, 2))


MODELS = {
    "a logarithm before a normalisation": (lambda: nn.Sequential(
        nn.Linear(4, 4), nn.ReLU(), Log(), Standardise(), nn.Linear(4, 2)), 0.0, "2"),
    "a division": (lambda: chain(Standardise()), 0.0, "1"),
    "an overflow": (lambda: chain(Softmax()), 1e4, "1"),
    "a function of a forward": (Nested, 1e5, "inner"),
    "the second call of two": (Twice, 100.0, "root"),
}  # fmt: skip


def trained(tmp_path, build, spoil: float, at: int, every: int):
    """Train thirty steps; at one of them, what comes in is multiplied out of bounds or to zero."""
    model = seeded(build)
    optimizer = sgd(model, lr=1e-3)
    with torch.no_grad():
        for p in model.parameters():
            p.abs_()  # logarithms and exponentials of what comes are finite until then
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.zero_().requires_grad_(False)  # what is multiplied by zero stays zero
    generator = torch.Generator().manual_seed(0)
    with watched(model, tmp_path, every=every) as run:
        for step in range(31):
            x = torch.rand(8, 4, generator=generator) + 0.1
            x = x * spoil if step == at else x
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            run.log(loss=loss)
    return diagnose(record_of(run))


@pytest.mark.parametrize("case", MODELS)
def test_the_module_is_that_which_recording_each_step_names(tmp_path, case):
    """Of a step without hooks it is read off the graph; the reference records every step."""
    build, spoil, where = MODELS[case]
    found = trained(tmp_path, build, spoil, at=13, every=10)[0]
    reference = trained(tmp_path, build, spoil, at=13, every=1)[0]
    assert (found.code, found.where, found.step) == ("act-nonfinite", where, 13)
    if case != "a function of a forward":  # hooks see it only in the layer that comes next
        assert (reference.code, reference.where, reference.step) == ("act-nonfinite", where, 13)
        assert found.evidence["call"] == reference.evidence["call"] == 1 + (where == "root")
    assert found.evidence["phase"] == reference.evidence["phase"] == "forward"


def test_a_loss_that_spoils_itself_names_no_module(tmp_path):
    """Where all outputs are numbers, the loss function is to blame."""
    model = seeded(lambda: nn.Linear(4, 1))
    optimizer = sgd(model, lr=1e-3)
    with watched(model, tmp_path, every=10) as run:
        for step in range(31):
            output = model(torch.ones(8, 4))
            loss = (output * (0.0 if step == 13 else 1.0)).abs().log().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log(loss=loss)
    first, *rest = diagnose(record_of(run))
    assert (first.code, first.step) == ("loss-nonfinite", 13)
    assert [one.where for one in rest if one.step == 13] == []


def test_all_hooks_are_gone_after_the_first_step(tmp_path):
    """What is learnt once needs no hook again."""
    model = seeded(lambda: chain(nn.ReLU()))
    optimizer = sgd(model)
    counts = []
    with watched(model, tmp_path, every=2):
        for _ in range(4):
            model(torch.ones(2, 4)).mean().backward()
            counts.append(sum(len(m._forward_hooks) for m in model.modules()))
            optimizer.step()
    assert counts[0] > counts[2] > counts[1] == counts[3] == 0
