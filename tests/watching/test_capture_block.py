"""What holds around and beyond one captured pass: values, names, the block's ends."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lampwork
from lampwork._core.errors import InputError, NameNotFound
from tests.watching.specimen import Of, X, hooks_of, net

# Values ------------------------------------------------------------------------------------------


def test_values_are_those_at_the_time_of_the_call() -> None:
    """An output that a later layer overwrites in place is captured as it was."""
    model = net()
    with lampwork.capture(model) as seen:
        model(X)

    expected = model[0](X)
    assert (expected < 0).any()
    assert torch.equal(seen["0"].output, expected)
    assert torch.equal(seen["1"].input, expected)
    assert torch.equal(seen["1"].output, expected.relu())


def test_without_clone_the_tensors_themselves_are_kept() -> None:
    """`clone=False` copies nothing: what was captured shares memory and follows changes."""
    model = net()
    with lampwork.capture(model, "0", clone=False) as seen:
        output = model[0](X)
        output.detach().fill_(7)

    assert seen["0"].output.data_ptr() == output.data_ptr()
    assert (seen["0"].output == 7).all()
    assert seen["0"].input.data_ptr() == X.data_ptr()
    assert seen["0"].weight.data_ptr() == model[0].weight.data_ptr()


def test_without_gradients_there_are_values_only() -> None:
    """`gradients=False` puts no hook on any tensor."""
    model = net()
    with lampwork.capture(model, gradients=False) as seen:
        output = model(X)
        assert output._backward_hooks is None
        assert all(parameter._backward_hooks is None for parameter in model.parameters())
        output.sum().backward()

    call = seen["0"]
    assert torch.equal(call.weight, model[0].weight)
    assert call.grad_output is call.grad_input is call.grad_weight is call.grad_bias is None


def test_parameters_are_those_at_the_time_of_the_call() -> None:
    """A parameter that is written between two calls, also past autograd, shows both values."""
    model = nn.Linear(2, 2, bias=False)
    with lampwork.capture(model) as seen:
        for value in (1.0, 2.0, 3.0):
            model.weight.data.fill_(value)
            model(torch.ones(1, 2))
        with torch.no_grad():
            model.weight.add_(1)
        model(torch.ones(1, 2))

    assert [seen[name].weight[0, 0].item() for name in seen] == [1, 2, 3, 4]


def test_a_parameter_that_comes_during_the_block_is_followed() -> None:
    """A layer whose parameter is replaced inside the block shows the new one's gradient."""
    model = nn.Linear(2, 2, bias=False)
    with lampwork.capture(model) as seen:
        model(torch.ones(1, 2))
        model.weight = nn.Parameter(torch.zeros(2, 2))
        model(torch.ones(1, 2)).sum().backward()

    assert seen[""].grad_weight is None
    assert torch.equal(seen["#2"].grad_weight, torch.ones(2, 2))


def test_a_parametrized_weight_shows_what_is_trained() -> None:
    """Under `weight_norm` the parameters are its two originals; `weight` itself is none."""
    model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
    with lampwork.capture(model, "") as seen:
        model(X).sum().backward()

    originals = [f"parametrizations.weight.original{i}" for i in (0, 1)]
    assert seen[""].weight is None
    assert seen[""].parameters.keys() == {"bias", *originals}
    for name in originals:
        assert torch.equal(seen[""].parameters[name][1], model.get_parameter(name).grad)


# Names -------------------------------------------------------------------------------------------


def test_globs_choose_modules() -> None:
    """No glob and `*` name every module; several name what at least one of them matches."""
    model = nn.Sequential(net(), net())

    def names(*globs: str) -> list[str]:
        with lampwork.capture(model, *globs) as seen:
            model[0](X)
            model[1][0](X)
        return seen.names()

    assert names() == names("*") == ["0", "0.0", "0.1", "0.2", "1.0"]
    assert names("1.*", "0.[12]") == ["0.1", "0.2", "1.0"]
    assert names("0") == ["0"]
    assert names("", "?.0") == ["0.0", "1.0"]


def test_a_capture_is_read_like_a_mapping() -> None:
    """`in`, `len`, iteration and `names()` speak of calls, in the order in which they began."""
    model = net()
    with lampwork.capture(model, "0", "") as seen:
        assert len(seen) == 0
        model(X)
        model[0](X)

    assert seen.names() == list(seen) == ["", "0", "0#2"]
    assert len(seen) == 3
    assert "0#2" in seen
    assert "0#1" in seen
    assert seen["0#1"] is seen["0"]
    assert "0#3" not in seen
    assert "1" not in seen


def test_names_that_mean_nothing_are_told_apart() -> None:
    """An unknown glob, an uncaptured module, an uncalled one and a call too many each say so."""
    model = nn.ModuleDict({"conv1": nn.Linear(4, 4), "conv2": nn.Linear(4, 4), "head": net()})
    with pytest.raises(NameNotFound, match=r"'convv' matches no module: did you mean 'conv2' or"):
        lampwork.capture(model, "conv1", "convv")
    with lampwork.capture(model, "conv*") as seen:
        model["conv1"](X)
    with pytest.raises(NameNotFound, match="'conv3' matches no captured module: did you mean"):
        seen["conv3"]
    with pytest.raises(NameNotFound, match="'conv2' was not called between entering and leaving"):
        seen["conv2"]
    with pytest.raises(NameNotFound, match="'conv1' was called once, there is no call #2"):
        seen["conv1#2"]
    with lampwork.capture(model, "conv1") as seen:
        model["conv1"](model["conv1"](X))
    with pytest.raises(NameNotFound, match="'conv1' was called 2 times, there is no call #3"):
        seen["conv1#3"]


# The block's ends --------------------------------------------------------------------------------


def test_a_compiled_model_is_refused() -> None:
    """Torch would ignore the hooks silently, so a compiled module at any depth is an error."""
    inside, wrapped = nn.Sequential(net()), torch.compile(net(), backend="eager")
    inside[0].compile(backend="eager")
    with pytest.raises(InputError, match=r"'0' is already compiled.*open the block on the plain"):
        lampwork.capture(inside)
    with pytest.raises(InputError, match="'OptimizedModule' is already compiled"):
        lampwork.capture(wrapped)


# torch's tracer looks at `.grad` of every tensor that it meets.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_model_compiled_inside_the_block_is_captured() -> None:
    """The cure that the refusal offers works."""
    model, plain = net(), net()
    with lampwork.capture(model) as seen:
        torch.compile(model, backend="eager")(X).sum().backward()
    with lampwork.capture(plain) as plainly:
        plain(X).sum().backward()

    assert seen.names() == plainly.names()
    for name in seen:
        assert torch.equal(seen[name].output, plainly[name].output)
        assert torch.equal(seen[name].grad_output, plainly[name].grad_output)
    assert torch.equal(seen["0"].grad_weight, plainly["0"].grad_weight)


def test_an_open_capture_cannot_be_opened() -> None:
    """Entering twice is an error, and the outer block goes on."""
    model = net()
    with lampwork.capture(model) as seen:
        with pytest.raises(InputError, match=r"open already: call lampwork.capture\(…\) once more"):
            seen.__enter__()
        model(X)

    assert "2" in seen
    assert not hooks_of(model)


def test_two_captures_of_one_model_do_not_meet() -> None:
    """Blocks of different captures may be nested; each keeps its own."""
    model = net()
    with lampwork.capture(model, "0") as outer:
        with lampwork.capture(model, "2") as inner:
            model(X).sum().backward()
        model(X).sum().backward()

    assert outer.names() == ["0", "0#2"]
    assert inner.names() == ["2"]
    assert torch.equal(inner["2"].grad_bias, torch.full((2,), 3.0))


def test_a_capture_may_be_used_again() -> None:
    """The second block starts empty; what was read from the first stays."""
    model = net()
    capture = lampwork.capture(model, "2")
    with capture as seen:
        model(X).sum().backward()
        model(X)
    first = seen["2"]
    with capture as seen:
        model(2 * X).sum().backward()

    assert seen.names() == ["2"]
    assert seen["2"] is not first
    assert torch.equal(first.grad_weight + seen["2"].grad_weight, model[2].weight.grad)


def fail(*_: Any) -> None:
    """Stands for an exception in the user's code."""
    raise ArithmeticError("the user's own")


def test_no_hook_survives_an_exception_in_forward() -> None:
    """The block's end takes all hooks off; the call that raised has no output."""
    model = net().append(Of(fail))
    with pytest.raises(ArithmeticError, match="own"), lampwork.capture(model) as seen:
        model(X)

    assert not hooks_of(model)
    assert seen["2"].output.shape == (3, 2)
    assert torch.equal(seen["3"].input, seen["2"].output)
    assert seen["3"].output is seen["3"].grad_output is None


def test_no_hook_survives_an_exception_in_backward() -> None:
    """The block's end takes all hooks off; gradients that came before the exception are there."""
    model = net()
    seen = lampwork.capture(model)

    def train() -> None:
        with seen:
            hidden = model[0](X)
            hidden.register_hook(fail)
            model[2](hidden).sum().backward()

    with pytest.raises(ArithmeticError, match="own"):
        train()

    assert not hooks_of(model)
    assert torch.equal(seen["2"].grad_output, torch.ones(3, 2))
    assert seen["0"].grad_weight is None


def test_a_forward_that_failed_and_was_caught_leaves_the_rest_right() -> None:
    """A module that raises and is called again inside the block gets each call's own output."""

    def halve(x: Tensor) -> Tensor:
        if x.shape[0] == 3:
            raise MemoryError
        return x / 2

    class Retry(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(Of(halve))

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.inner(x)
            except MemoryError:
                return self.inner(x[:2])

    model = Retry()
    with lampwork.capture(model) as seen:
        model(X)

    assert seen.names() == ["", "inner", "inner.0", "inner#2", "inner.0#2"]
    assert seen["inner"].output is None
    assert torch.equal(seen["inner#2"].output, X[:2] / 2)
    assert torch.equal(seen[""].output, X[:2] / 2)


@pytest.mark.parametrize("clone", [True, False])
def test_no_graph_lives_on(clone: bool) -> None:
    """Once the user drops the loss its graph is gone, in the block and after it."""

    class Witness(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            witnesses.append(weakref.ref(ctx))
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient

    witnesses: list[weakref.ref[Any]] = []
    model = net().append(Of(Witness.apply))
    with lampwork.capture(model, clone=clone) as seen:
        model(X).sum().backward()
        assert witnesses[0]() is None
        loss = model(X).sum()
        assert witnesses[1]() is not None
    del loss

    assert witnesses[1]() is None
    assert seen["3"].output.grad_fn is None
    assert not seen["0"].weight.requires_grad


def test_the_model_can_be_copied_and_saved_afterwards(tmp_path: Any) -> None:
    """Nothing of ours is left that a copy or a file would carry."""
    model = net()
    with lampwork.capture(model):
        model(X).sum().backward()
    torch.save(model, tmp_path / "model.pt")

    for other in (copy.deepcopy(model), torch.load(tmp_path / "model.pt", weights_only=False)):
        assert torch.equal(other(X), model(X))
        assert not hooks_of(other)
