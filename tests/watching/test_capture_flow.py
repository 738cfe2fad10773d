"""Gradients over several passes, recomputed ones, edited ones, and the idiom of the README."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import lampwork
from tests.watching.specimen import Of, X, net


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_gradients_are_summed_over_backward_passes(reentrant: bool | None) -> None:
    """Two backward passes through one graph give twice the gradient, recomputed or not."""
    model, expected = net(), None
    for passes in (1, 2):
        x = X.clone().requires_grad_()
        with lampwork.capture(model) as seen:
            h = model(x) if reentrant is None else checkpoint(model, x, use_reentrant=reentrant)
            for _ in range(passes):
                h.square().sum().backward(retain_graph=True)
        call = seen["2"]
        gradients = [call.grad_output, call.grad_input, call.grad_weight, call.grad_bias]
        if expected is not None:
            assert all(map(torch.equal, gradients, expected))
        expected = [2 * gradient for gradient in gradients]


def test_a_gradient_in_the_users_hands_stays_as_it_is() -> None:
    """A later backward pass makes a new sum, it does not write into the one that was read."""
    model = net()
    with lampwork.capture(model, "2") as seen:
        model(X).sum().backward()
        first = seen["2"].grad_bias
        model.zero_grad()
        model(X).sum().backward()

    assert torch.equal(first, torch.full((2,), 3.0))
    assert torch.equal(seen["2"].grad_bias, torch.full((2,), 6.0))


def test_backward_after_the_block_adds_nothing() -> None:
    """Gradients arrive while the block is open, and only then."""
    model = net()
    with lampwork.capture(model) as seen:
        loss = model(X).sum()
    loss.backward()

    assert seen["2"].grad_output is None
    assert seen["2"].grad_weight is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_autograd_gradients_are_none(mode: Any) -> None:
    """Under `no_grad` and `inference_mode` values are captured and every gradient is None."""
    model = net()
    with mode(), lampwork.capture(model) as seen:
        output = model(X)
        model(X)

    assert torch.equal(seen[""].output, output)
    assert seen["2#2"].grad_output is seen["2#2"].grad_input is seen["2"].grad_weight is None


def test_autograd_grad_counts_as_a_backward_pass() -> None:
    """`torch.autograd.grad` with respect to an input, as for saliency, is seen like `backward`."""
    model, x = net(), X.clone().requires_grad_()
    with lampwork.capture(model) as seen:
        (gradient,) = torch.autograd.grad(model(x).sum(), x)

    assert torch.equal(seen[""].grad_input, gradient)
    assert torch.equal(seen["2"].grad_output, torch.ones(3, 2))


def test_a_users_edit_is_seen_where_it_came_first() -> None:
    """A hook that edits a gradient before ours is seen in it; later ones only further down."""

    class Edited(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.body(x)
            h.register_hook(lambda gradient: gradient * 2)
            return self.head(h)

    model = Edited()
    with lampwork.capture(model) as seen:
        model(X).sum().backward()

    arrived = torch.ones(3, 4) @ model.head.weight
    assert torch.equal(seen["body"].grad_output, arrived)
    assert torch.equal(seen["head"].grad_input, 2 * arrived)
    assert torch.allclose(seen["body"].grad_weight, (2 * arrived).T @ X)


def test_recomputed_gradients_go_to_the_call_that_was_trained_on() -> None:
    """A validation pass on the same input before a checkpointed one keeps its None gradients."""
    model = net()
    with lampwork.capture(model, "2") as seen:
        with torch.no_grad():
            model(X)
        x = X.clone().requires_grad_()
        checkpoint(model, x, use_reentrant=True).sum().backward()

    assert seen.names() == ["2", "2#2"]
    assert seen["2"].grad_output is None
    assert torch.equal(seen["2#2"].grad_output, torch.ones(3, 2))


@pytest.mark.parametrize("one_by_one", [True, False])
def test_recomputed_calls_are_told_apart(one_by_one: bool) -> None:
    """A module in several segments gets each segment's gradient in the call it belongs to."""
    module = Of(lambda *tensors: torch.stack(tensors).sum(0) * 2)
    inputs = [(X,), (X[:2],), (X[:2], X[:2]), (X.double(),)]
    inputs += [] if one_by_one else [(X,)]  # equal ones are told by their order alone
    losses = []
    with lampwork.capture(module) as seen:
        for factor, tensors in enumerate(inputs, start=1):
            leaves = [tensor.clone().requires_grad_() for tensor in tensors]
            losses.append(factor * checkpoint(module, *leaves, use_reentrant=True).sum())
        for loss in losses if one_by_one else [torch.stack(losses).sum()]:
            loss.backward()

    for factor, (name, tensors) in enumerate(zip(seen, inputs, strict=True), start=1):
        assert torch.equal(seen[name].grad_output, torch.full_like(tensors[0], factor)), name


@pytest.mark.parametrize("view", [lambda x: x.view(-1), lambda x: x[:2], lambda x: x.t()])
def test_a_recomputed_view_of_the_segments_input_has_its_gradient(view: Any) -> None:
    """A view made in no_grad mode says that it requires grad: its gradient comes all the same."""
    model = nn.Sequential(Of(view), Of(lambda x: x * 3))
    with lampwork.capture(model) as seen:
        x = X.clone().requires_grad_() * 1
        checkpoint(model, x, use_reentrant=True).sum().backward()

    expected = torch.full_like(view(X), 3)
    assert torch.equal(seen["0"].grad_output, expected)
    assert torch.equal(seen["1"].grad_input, expected)
    assert seen["0"].grad_input.shape == X.shape


def test_recomputed_gradients_are_found_where_values_are_nan() -> None:
    """Reentrant checkpointing of a pass that went wrong, the very thing one wants to look at."""
    model = net()
    x = torch.full((3, 4), torch.nan, requires_grad=True)
    with lampwork.capture(model, "2") as seen:
        checkpoint(model, x, use_reentrant=True).sum().backward()

    assert torch.equal(seen["2"].grad_output, torch.ones(3, 2))


# The README's idiom ------------------------------------------------------------------------------


def test_feature_maps_of_a_cnn_in_training() -> None:
    """Three training steps in the block: maps, kernels and gradients of each step in turn."""
    torch.manual_seed(0)
    convolution, relu = nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True)
    model = nn.Sequential(convolution, relu, nn.Flatten(), nn.Linear(144, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    kernels, gradients = [], []

    with lampwork.capture(model, "0", "3") as seen:
        for _ in range(3):
            kernels.append(model[0].weight.detach().clone())
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            gradients.append(model[0].weight.grad.clone())
            optimizer.step()

    assert seen.names() == ["0", "3", "0#2", "3#2", "0#3", "3#3"]
    for name, kernel in zip(("0", "0#2", "0#3"), kernels, strict=True):
        assert torch.equal(seen[name].weight, kernel)
        maps = nn.functional.conv2d(x, kernel, seen[name].bias)
        assert torch.equal(seen[name].output, maps)
        assert seen[name].grad_output.shape == maps.shape == (5, 4, 6, 6)
    assert torch.equal(seen["0"].grad_weight, gradients[0] + gradients[1] + gradients[2])
