"""Hooks: calls numbered, recomputation recognised, none left behind."""

import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_optimizer
from torch.utils.checkpoint import checkpoint

from lampwork.taps.tap import (
    Taps,
    in_backward,
    on_any_forward,
    on_gradient,
    on_optimizer_step,
)
from tests.watching.specimen import Of, hooks_of


class Log:
    """Taps on all modules of a model that note what they see."""

    def __init__(self, model, names=None):
        modules = dict(model.named_modules())
        chosen = {name: modules[name] for name in names or modules}
        self.entered, self.left = [], []
        self.taps = Taps(
            chosen,
            before=lambda visit, inputs: self.entered.append((visit.name, visit.call)),
            after=lambda visit, output: self.left.append((visit.name, visit.call)),
        )


def test_calls_are_numbered_until_the_next_restart():
    """Each module's calls count up from 1, and start over with the next forward pass."""
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu)
    log = Log(model)
    for _ in range(2):
        log.taps.restart()
        model(torch.ones(1, 2))
    once = [("0", 1), ("1", 1), ("2", 1), ("1", 2)]
    assert log.entered == 2 * [("", 1), *once]
    assert log.left == 2 * [*once, ("", 1)]


def test_inputs_and_output_are_those_of_the_call():
    """Before gets positional and keyword inputs as they were given, after the very output."""
    model, seen = Of(lambda x, *, y: x + y), {}
    taps = Taps(
        {"": model},
        before=lambda visit, inputs: seen.update(inputs=inputs, memo="mine"),
        after=lambda visit, output: seen.update(output=output),
    )
    x, y = torch.ones(1), torch.ones(1)
    output = model(x, y=y)
    taps.remove()
    (args, kwargs), got = seen["inputs"], seen["output"]
    assert args[0] is x
    assert kwargs["y"] is y
    assert got is output


def test_what_before_leaves_reaches_after():
    """The memo of a visit travels from before to after, also through nested calls."""
    model, memos = nn.Sequential(nn.Sequential(nn.ReLU())), []

    def before(visit, inputs):
        visit.memo = f"memo of {visit.name!r}"

    Taps(
        dict(model.named_modules()),
        before=before,
        after=lambda visit, output: memos.append((visit.name, visit.memo)),
    )
    model(torch.ones(1))
    assert memos == [(name, f"memo of {name!r}") for name in ("0.0", "0", "")]


class Countdown(nn.Module):
    """A module that calls itself."""

    def forward(self, x, depth):
        return self(x, depth - 1) + 1 if depth else x


def test_a_recursive_module_has_a_call_per_depth():
    """Inner calls begin later and end earlier, each under its own number."""
    model = Countdown()
    log = Log(model)
    model(torch.zeros(1), 2)
    assert log.entered == [("", 1), ("", 2), ("", 3)]
    assert log.left == [("", 3), ("", 2), ("", 1)]


class Trying(nn.Module):
    """A module whose first child may raise, deep inside; then another one takes over."""

    def __init__(self):
        super().__init__()
        self.fragile = nn.Sequential(nn.Sequential(Of(self._maybe)))
        self.sturdy = nn.Identity()
        self.breaks = True

    def _maybe(self, x):
        if self.breaks:
            raise ArithmeticError("inside")
        return x

    def forward(self, x):
        try:
            return self.fragile(x)
        except ArithmeticError:
            return self.sturdy(x)


@pytest.mark.parametrize("names", [None, ["fragile.0.0", "sturdy"]])
def test_a_forward_that_raises_inside_does_not_disturb_the_rest(names):
    """Calls that ended in a caught exception are never left; those after them are told right."""
    model = Trying()
    log = Log(model, names)
    for breaks in (True, False):
        model.breaks = breaks
        model(torch.ones(1))
    left = [("sturdy", 1), ("", 1), ("fragile.0.0", 2), ("fragile.0", 2), ("fragile", 2), ("", 2)]
    assert log.left == [visit for visit in left if names is None or visit[0] in names]


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputation_by_checkpoint_is_recognised(reentrant):
    """The forward that either kind of checkpoint repeats in backward has no number of its own."""
    block, visits = nn.Sequential(nn.Linear(2, 2), nn.Tanh()), []
    taps = Taps(
        dict(block.named_modules()),
        before=lambda visit, inputs: visits.append((visit.name, visit.call, visit.recomputed)),
    )
    x = torch.ones(1, 2, requires_grad=True)
    y = checkpoint(block, x, use_reentrant=reentrant)
    first = [("", 1, False), ("0", 1, False), ("1", 1, False)]
    assert visits == first
    y.sum().backward()
    again = visits[3:]
    assert [visit for visit in again if not visit[2] or visit[1]] == []
    assert [name for name, _, _ in again][:2] == ["", "0"]
    taps.restart()
    block(x)
    assert visits[-3:] == first


def test_in_backward_is_so_only_in_a_backward_pass():
    """Outside of a backward pass, after one and after one that raised, the answer is no."""
    seen = []
    x = torch.ones(1, requires_grad=True)
    x.register_hook(lambda gradient: seen.append(in_backward()))
    (x * 2).sum().backward()
    assert seen == [True]

    def fail(gradient):
        raise ArithmeticError("inside")

    x.register_hook(fail)
    with pytest.raises(ArithmeticError):
        (x * 2).sum().backward()
    assert not in_backward()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_model_that_is_traced_is_not_told():
    """Hooks leave nothing in a graph that torch.jit.trace or torch.export makes of the model."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    log = Log(model)
    traced = torch.jit.trace(model, torch.ones(1, 2), check_trace=False)
    exported = torch.export.export(model, (torch.ones(1, 2),), strict=False)
    assert (log.entered, log.left) == ([], [])
    for graph in (traced, exported.module()):
        assert torch.equal(graph(torch.ones(1, 2)), model(torch.ones(1, 2)))


def test_no_hook_is_left_after_remove():
    """Removing takes every hook off, and doing it twice does no harm."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    log = Log(model)
    assert len(hooks_of(model)) >= 6
    log.taps.remove()
    log.taps.remove()
    assert hooks_of(model) == []
    model(torch.ones(1, 2))
    assert log.entered == []


def test_taps_may_be_removed_from_inside_a_call():
    """A callback that removes the taps ends them at once, and the forward goes on."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    visits = []

    def before(visit, inputs):
        visits.append(visit.name)
        taps.remove()

    taps = Taps(dict(model.named_modules()), before=before)
    assert model(torch.ones(1, 2)).shape == (1, 2)
    assert visits == [""]
    assert hooks_of(model) == []


def test_other_hooks_stay():
    """Hooks of the user are run and left alone."""
    model, mine = nn.Linear(2, 2), []
    model.register_forward_hook(lambda *_: mine.append("forward"))
    taps = Taps({"": model})
    model(torch.ones(1, 2))
    taps.remove()
    model(torch.ones(1, 2))
    assert mine == ["forward", "forward"]
    assert len(model._forward_hooks) == 1


def test_a_gradient_is_seen_and_not_changed():
    """`on_gradient` tells the gradient of all consumers together, once per backward pass."""
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    h, seen = x * 3, []
    handle = on_gradient(h, seen.append)
    (h.square().sum() + h.sum()).backward(retain_graph=True)
    assert [gradient.tolist() for gradient in seen] == [[7.0, 13.0]]
    assert x.grad.tolist() == [21.0, 39.0]
    handle.remove()
    h.sum().backward()
    assert len(seen) == 1


def test_a_tensor_that_gets_no_gradient_is_not_told_of():
    """Of the parts of one split, only those that the loss uses are told."""
    x, seen = torch.ones(4, requires_grad=True), []
    parts = (x * 2).split(2)
    for i, part in enumerate(parts):
        on_gradient(part, lambda gradient, i=i: seen.append(i))
    parts[1].sum().backward()
    assert seen == [1]


def test_each_step_of_each_optimizer_is_told():
    """Before and after are called around every step of whichever optimizer of the process."""
    parameter, told = nn.Parameter(torch.ones(1)), []
    parameter.grad = torch.ones(1)
    handles = on_optimizer_step(
        lambda optimizer: told.append(("before", type(optimizer).__name__, parameter.item())),
        lambda optimizer: told.append(("after", type(optimizer).__name__, parameter.item())),
    )
    try:
        torch.optim.SGD([parameter], lr=0.5).step()
        torch.optim.SGD([parameter], lr=0.25).step()
    finally:
        for handle in handles:
            handle.remove()
    torch.optim.SGD([parameter], lr=1.0).step()
    assert told == [
        ("before", "SGD", 1.0),
        ("after", "SGD", 0.5),
        ("before", "SGD", 0.5),
        ("after", "SGD", 0.25),
    ]
    assert not torch_optimizer._global_optimizer_pre_hooks
    assert not torch_optimizer._global_optimizer_post_hooks


def test_any_forward_of_the_process_is_told():
    """Every module that begins a forward is told, until the handle is removed."""
    model, told = nn.Sequential(nn.ReLU()), []
    handle = on_any_forward(told.append)
    model(torch.ones(1))
    handle.remove()
    model(torch.ones(1))
    assert told == [model, model[0]]
