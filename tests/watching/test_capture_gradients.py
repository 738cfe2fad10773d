from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import lampwork
from lampwork._core.errors import InputError


def chain() -> dict[str, Tensor]:
    """`o = sum((a + b) * d)` with every step of it, by name."""
    a, b, d = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(3))
    c = a + b
    e = c * d
    return {"a": a, "b": b, "c": c, "d": d, "e": e, "o": e.sum()}


def test_leaves_and_what_is_made_of_them() -> None:
    """Every named tensor, leaf or not, gets the gradient that `torch.autograd.grad` gives."""
    tensors = chain()
    expected = torch.autograd.grad(tensors["o"], list(tensors.values()), retain_graph=True)

    with lampwork.capture_gradients(**tensors) as gradients:
        tensors["o"].backward()

    for name, gradient in zip(tensors, expected, strict=True):
        assert torch.equal(getattr(gradients, name), gradient), name
    assert gradients.c.tolist() == [1, 2]
    assert torch.equal(gradients.d, tensors["d"].grad)


def test_no_gradient_yet_is_none() -> None:
    """Before `backward`, and where the loss does not depend on the tensor, there is None."""
    tensors = chain()
    aside = tensors["a"] * 3
    with lampwork.capture_gradients(aside=aside, **tensors) as gradients:
        assert gradients.c is None
        tensors["o"].backward()

    assert gradients.c is not None
    assert gradients.aside is None


def test_part_of_an_operation_that_got_none_is_none() -> None:
    """Of two tensors made by one operation, the one that is not used has no gradient."""
    rows = torch.ones(2, 3, requires_grad=True)
    used, unused = rows.unbind()
    with lampwork.capture_gradients(used=used, unused=unused) as gradients:
        used.sum().backward()

    assert torch.equal(gradients.used, torch.ones(3))
    assert gradients.unused is None


def test_backward_passes_add_up() -> None:
    """Two backward passes in the block give the sum; what was read before stays as it was."""
    tensors = chain()
    with lampwork.capture_gradients(c=tensors["c"]) as gradients:
        tensors["o"].backward(retain_graph=True)
        first = gradients.c
        (tensors["o"] * 10).backward()

    assert first.tolist() == [1, 2]
    assert gradients.c.tolist() == [11, 22]


def test_it_does_not_touch_the_tensors() -> None:
    """Gradients of leaves are what they are without the block, and no `.grad` is retained."""
    bare, watched = chain(), chain()
    bare["o"].backward()
    with lampwork.capture_gradients(**watched):
        watched["o"].backward()

    for name in ("a", "b", "d"):
        assert torch.equal(watched[name].grad, bare[name].grad)
    assert not watched["c"].retains_grad


def test_edits_made_before_are_seen() -> None:
    """A hook that was there before the block changes what is shown and what flows on."""
    tensors = chain()
    tensors["c"].register_hook(lambda gradient: gradient * 2)
    with lampwork.capture_gradients(**tensors) as gradients:
        tensors["o"].backward()

    assert gradients.c.tolist() == [2, 4]
    assert gradients.a.tolist() == tensors["a"].grad.tolist() == [2, 4]
    assert gradients.d.tolist() == [2, 4]  # not behind c: as without the edit


def test_edits_made_in_the_block_are_seen_further_down() -> None:
    """A hook that comes after ours finds the gradient as it arrived; what flows on is edited."""
    tensors = chain()
    with lampwork.capture_gradients(**tensors) as gradients:
        tensors["c"].register_hook(lambda gradient: gradient * 2)
        tensors["o"].backward()

    assert gradients.c.tolist() == [1, 2]
    assert gradients.a.tolist() == [2, 4]


def test_a_gradient_that_is_edited_in_place_is_kept_as_it_was() -> None:
    """What we show is a copy: a later hook that writes into the gradient does not reach it."""
    tensors = chain()
    with lampwork.capture_gradients(c=tensors["c"]) as gradients:
        tensors["c"].register_hook(lambda gradient: gradient.mul_(0))
        tensors["o"].backward()

    assert gradients.c.tolist() == [1, 2]
    assert tensors["a"].grad.tolist() == [0, 0]


def test_gradients_of_gradients() -> None:
    """Under `create_graph` the captured gradient is a plain value, and the second pass adds."""
    x = torch.tensor(3.0, requires_grad=True)
    with lampwork.capture_gradients(x=x) as gradients:
        (slope,) = torch.autograd.grad(x**3, x, create_graph=True)
        assert gradients.x.item() == 27
        assert gradients.x.grad_fn is None
        slope.backward()

    assert gradients.x.item() == 27 + 18


def test_what_cannot_have_a_gradient_is_named() -> None:
    """A tensor without graph and what is no tensor are errors that tell which one."""
    x = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        detached = x * 2
    message = r"hidden is a tensor without graph, so no gradient can reach it: make it.*no_grad"
    with pytest.raises(InputError, match=message):
        lampwork.capture_gradients(x=x, hidden=detached)
    with pytest.raises(InputError, match="layers is a list: give the tensor itself"):
        lampwork.capture_gradients(x=x, layers=[x])


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    """Reading a name that was not given lists those that were."""
    x = torch.ones(2, requires_grad=True)
    gradients = lampwork.capture_gradients(x=x, y=x * 2)
    with pytest.raises(AttributeError, match="no tensor was given as 'z'; there are: x, y"):
        _ = gradients.z
    with pytest.raises(AttributeError, match="there are: none"):
        _ = lampwork.capture_gradients().z


def test_hooks_are_gone_after_the_block() -> None:
    """Also when the block ends in an exception; later backward passes add nothing."""

    def fail(*_: Any) -> None:
        raise ArithmeticError("the user's own")

    tensors = chain()
    gradients = lampwork.capture_gradients(**tensors)

    def train() -> None:
        with gradients:
            tensors["o"].backward(retain_graph=True)
            tensors["c"].register_hook(fail)
            tensors["o"].backward(retain_graph=True)

    with pytest.raises(ArithmeticError, match="own"):
        train()
    for name in ("a", "b", "d", "e", "o"):
        assert not tensors[name]._backward_hooks, name
    before = gradients.e
    torch.autograd.grad(tensors["e"].sum(), tensors["d"])
    assert gradients.e is before


def test_a_block_is_entered_once() -> None:
    """Within itself or afterwards: a second entry is an error, and no hook is left."""
    tensors = chain()
    with lampwork.capture_gradients(c=tensors["c"]) as gradients:
        with pytest.raises(InputError, match=r"entered before: call lampwork.capture_gradients"):
            gradients.__enter__()
        tensors["o"].backward()

    assert gradients.c.tolist() == [1, 2]
    assert not tensors["c"]._backward_hooks
    with pytest.raises(InputError, match="entered before"):
        gradients.__enter__()
