"""The launcher: which models a script trains, found without a word from the script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional as F
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer

from lampwork.record.reader import Record
from lampwork.watching.launcher import LOOK_FOR_STEPS, Launcher


@pytest.fixture
def told() -> list[str]:
    """What the launcher has said."""
    return []


@pytest.fixture
def launcher(tmp_path: Path, told: list[str]) -> Iterator[Launcher]:
    """A launcher that is looking for models, recording every step."""
    launcher = Launcher(tmp_path, "run", 1, told.append)
    launcher.install()
    yield launcher
    launcher.close()


def train(model: nn.Module, steps: int = 3, size: int = 4) -> list[float]:
    """A few steps towards zero outputs; returns the losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        loss = model(torch.ones(2, size)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_model_is_found_at_its_first_forward(launcher: Launcher):
    """The first step is recorded already, under the model's own names, with the loss."""
    losses = train(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    launcher.close()
    (session,) = launcher.sessions
    record = Record(session.path)
    assert record.steps.tolist() == [0, 1, 2]
    assert [t.name for t in record.of_kind("output")] == ["0", "1", "2", ""]
    assert [t.name for t in record.of_kind("grad")] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    steps, values = record.scalar("loss")
    assert steps.tolist() == [0, 1, 2]
    assert values.tolist() == pytest.approx(losses)


class ByKeyword(nn.Module):
    """A model that is called as those of transformers are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, *, x: Tensor) -> Tensor:
        return self.layer(x)


def test_the_first_pass_is_seen_as_a_whole(launcher: Launcher):
    """In the pass in which a model is found, its own input and output are recorded as well."""
    model = ByKeyword()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, outputs = torch.arange(8.0).reshape(2, 4), []
    for _ in range(2):
        optimizer.zero_grad()
        outputs.append(model(x=x))
        outputs[-1].sum().backward()
        optimizer.step()
    launcher.close()
    record = Record(launcher.sessions[0].path)
    (put_in,) = record.of_kind("input")
    assert (put_in.name, put_in.facts["feeds"]) == ("", "layer")
    assert record.summary(put_in).mean.tolist() == [3.5, 3.5]
    whole = record.find("", "output")
    assert whole is not None
    expected = [output.mean().item() for output in outputs]
    assert record.summary(whole).mean.tolist() == pytest.approx(expected)


def test_two_models_get_a_run_each(launcher: Launcher, tmp_path: Path):
    """A generator and a discriminator, each with its own optimizer, are told apart."""
    generator, discriminator = nn.Linear(3, 4), nn.Linear(4, 1)
    of_d = torch.optim.SGD(discriminator.parameters(), lr=0.1)
    of_g = torch.optim.SGD(generator.parameters(), lr=0.1)
    for _ in range(2):
        of_d.zero_grad()
        real, fake = torch.ones(2, 4), generator(torch.ones(2, 3))
        (discriminator(fake.detach()).mean() - discriminator(real).mean()).backward()
        of_d.step()
        of_g.zero_grad()
        (-discriminator(fake).mean()).backward()
        of_g.step()
    launcher.close()
    weights = {
        path.name: [t.shape for t in Record(path).of_kind("weight")]
        for path in sorted(tmp_path.iterdir())
    }
    assert weights == {"run": [(1, 4), (1,)], "run-2": [(4, 3), (4,)]}
    for session in launcher.sessions:
        assert [finding.code for finding in session.findings] == []


def test_losses_of_micro_batches_add_up(launcher: Launcher):
    """With accumulation the step's loss is the sum of what backward was called on."""
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for x in (1.0, 2.0):
        (model(torch.full((1, 1), x)).square().sum() / 2).backward()
    optimizer.step()
    launcher.close()
    weight = model.weight.item()
    (loss,) = Record(launcher.sessions[0].path).scalar("loss")[1]
    assert loss == pytest.approx((weight**2 + 4 * weight**2) / 2)


def test_what_is_only_evaluated_is_no_model(launcher: Launcher):
    """A teacher, a frozen extractor and a loss module leave no run."""
    teacher, frozen = nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False)
    student, criterion = nn.Linear(4, 4), nn.MSELoss()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(2):
        x = frozen(torch.ones(2, 4))
        with torch.no_grad():
            wanted = teacher(x)
        optimizer.zero_grad()
        criterion(student(x), wanted).backward()
        optimizer.step()
    launcher.close()
    assert len(launcher.sessions) == 1
    assert Record(launcher.sessions[0].path).meta["steps"] == 2


def test_a_module_that_no_optimizer_steps_leaves_no_folder(launcher: Launcher, tmp_path: Path):
    """A forward with autograd on is not yet training."""
    nn.Linear(4, 4)(torch.ones(2, 4)).sum().backward()
    launcher.close()
    assert launcher.sessions == []
    assert list(tmp_path.iterdir()) == []


def test_a_wrapper_gives_the_model_inside(launcher: Launcher):
    """Under DataParallel the names are those of the model itself."""
    train(nn.DataParallel(nn.Sequential(nn.Linear(4, 2))))
    launcher.close()
    names = [t.name for t in Record(launcher.sessions[0].path).of_kind("weight")]
    assert names == ["0.weight", "0.bias"]


def test_what_cannot_be_watched_is_named(launcher: Launcher, told: list[str]):
    """A scripted model is told of once, and trains on."""
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        model = torch.jit.script(nn.Sequential(nn.Linear(4, 2)))
    losses = train(model)
    launcher.close()
    assert losses[-1] < losses[0]
    assert launcher.sessions == []
    assert len(told) == 1
    assert "is a ScriptModule" in told[0]


class Block(nn.Module):
    """A layer; torch compiles no module whose forward is its own code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(4, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Blocks(nn.Module):
    """Two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second = Block(4), nn.ReLU(), Block(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.act(self.first(x)))


def compile_all(model: Blocks) -> Any:
    """As most scripts do."""
    return torch.compile(model, backend="aot_eager", fullgraph=True)


def compile_in_place(model: Blocks) -> Any:
    """The same module, compiled."""
    model.compile(backend="aot_eager", fullgraph=True)
    return model


def compile_layers(model: Blocks) -> Any:
    """Some of the layers, each by itself and by either way."""
    model.first.compile(backend="aot_eager", fullgraph=True)
    model.second = torch.compile(model.second, backend="aot_eager", fullgraph=True)  # pyright: ignore[reportAttributeAccessIssue]
    return model


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """No code of another test, nor any for the next one."""
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore")  # of torch's compiler, about itself
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    ("compile", "parts"), [(compile_all, 1), (compile_in_place, 1), (compile_layers, 2)]
)
def test_a_compiled_model_is_watched_inside(
    tmp_path: Path, told: list[str], compile: Callable[[Blocks], Any], parts: int
):
    """Its outputs and their gradients are those of the same layers run eagerly; each part has a
    graph that records and at most one that does not, also when models are looked for no more.
    """
    torchs = nn.Module.compile

    def made() -> Blocks:
        torch.manual_seed(0)
        return Blocks()

    launcher = Launcher(tmp_path, "run", 5, told.append)
    launcher.install()
    losses = train(compile(made()), steps=LOOK_FOR_STEPS + 6)
    assert counters["stats"]["unique_graphs"] in range(2, 2 * parts + 1)
    assert train(made(), steps=LOOK_FOR_STEPS + 6) == losses
    launcher.close()
    assert nn.Module.compile is torchs
    assert told == []
    found, expected = (Record(session.path) for session in launcher.sessions)
    assert found.steps.tolist() == expected.steps.tolist()
    for kind in ("output", "grad_output"):
        rows = {t.name: expected.summary(t).mean for t in expected.of_kind(kind)}
        assert len(rows) == 4
        for tensor in found.of_kind(kind):
            mean = rows.pop(tensor.name.replace("._orig_mod", ""))
            np.testing.assert_allclose(found.summary(tensor).mean, mean, rtol=1e-5)
        assert not rows


def test_looking_ends(launcher: Launcher):
    """After some steps no module of the process has a hook between recorded steps."""
    assert len(torch_module._global_forward_pre_hooks) == 1
    train(nn.Linear(4, 4), steps=LOOK_FOR_STEPS)
    assert len(torch_module._global_forward_pre_hooks) == 0


def test_nothing_is_left_behind(tmp_path: Path):
    """After `close` torch is as it was, and closing again does nothing."""
    before = torch.Tensor.backward
    pre, post = (
        dict(hooks)
        for hooks in (
            torch_optimizer._global_optimizer_pre_hooks,
            torch_optimizer._global_optimizer_post_hooks,
        )
    )
    launcher = Launcher(tmp_path, None, 10, print)
    launcher.install()
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    train(model)
    launcher.close()
    launcher.close()
    assert torch.Tensor.backward is before
    assert dict(torch_optimizer._global_optimizer_pre_hooks) == pre
    assert dict(torch_optimizer._global_optimizer_post_hooks) == post
    assert not torch_module._global_forward_pre_hooks
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_folder_that_cannot_be_written_is_told_at_the_first_step(tmp_path: Path, told: list[str]):
    """The run is abandoned in the middle of the optimizer's step, and training goes on."""
    (tmp_path / "file").touch()
    launcher = Launcher(tmp_path / "file", "run", 1, told.append)
    launcher.install()
    model = nn.Linear(4, 4)
    losses = train(model, steps=4)
    launcher.close()
    assert losses[-1] < losses[0]
    assert len(told) == 1
    assert "cannot write a run folder" in told[0]
    assert not model._forward_hooks


def test_backward_keeps_its_signature(launcher: Launcher):
    """A wrapped `backward` still takes all that torch's takes."""
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.backward(gradient=torch.ones(2), retain_graph=True, inputs=[x])
    y.backward(torch.ones(2))
    assert x.grad is not None
    assert x.grad.tolist() == [4, 4]
    assert F.mse_loss(x, y).backward.__name__ == "backward"
