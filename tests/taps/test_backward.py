"""Hearing of backward passes without changing them."""

from __future__ import annotations

import torch
from torch import Tensor

from lampwork.taps.backward import on_backward


def test_each_pass_is_heard_of_and_nothing_is_left_behind():
    """Two listeners hear of the same pass; without any, torch's own method is back."""
    original, heard = Tensor.backward, []
    one, two = on_backward(heard.append), on_backward(heard.append)
    x = torch.ones(2, requires_grad=True)
    loss = x.sum()
    loss.backward()
    assert [tensor is loss for tensor in heard] == [True, True]
    one.remove()
    one.remove()
    x.prod().backward()
    assert len(heard) == 3
    assert x.grad.tolist() == [2.0, 2.0]
    two.remove()
    assert Tensor.backward is original


def test_who_wraps_the_wrapper_is_left_alone():
    """A wrapper that somebody put over ours meanwhile stays, and works on after us."""
    original, heard = Tensor.backward, []
    listening = on_backward(heard.append)
    ours = Tensor.backward

    def theirs(tensor: Tensor, *args: object, **kwargs: object) -> None:
        ours(tensor, *args, **kwargs)

    Tensor.backward = theirs
    try:
        listening.remove()
        assert Tensor.backward is theirs
        x = torch.ones(1, requires_grad=True)
        x.sum().backward()
        assert (heard, x.grad.tolist()) == ([], [1.0])
    finally:
        Tensor.backward = original


def test_a_pass_inside_of_a_pass_is_not_heard_of():
    """Autograd functions of the user's may call `backward()` in their own."""
    heard = []

    class Inner(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx, gradient: Tensor) -> Tensor:
            with torch.enable_grad():
                torch.ones(1, requires_grad=True).sum().backward()
            return gradient

    listening = on_backward(heard.append)
    Inner.apply(torch.ones(1, requires_grad=True)).sum().backward()
    listening.remove()
    assert len(heard) == 1
