"""Parameters, gradients, updates and their ratios against float64 on copies taken by hand.

The copies are taken around each call of `step` by the loop itself, so that they depend neither on
hooks nor on when these run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lampwork._core.summary import COLUMN, FIRST_BIN
from lampwork.diagnose.layers import parameters
from tests.native.reference import reference
from tests.watching.training import batches, hooks_anywhere, mlp, record_of, seeded, watched

DATA = batches(12, 5, 4)
EXACT = [COLUMN[name] for name in ("count", "zeros", "nan", "posinf", "neginf")]
CLOSE = [COLUMN[name] for name in ("sum", "sumsq", "min", "max")]
SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW


Found = dict[str, Tensor]
"""Tensors by the name that they have in the record."""


class Hand:
    """Steps optimizers of a model and copies what lies around each step.

    Attributes:
        steps: of each step the tensors of which the record has rows, float64, by kind.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.steps = model, list[dict[str, Found]]()
        self._outputs: list[Tensor] = []

    def backward(self, x: Tensor, by: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """One pass, of which the loss, or what `by` makes of it, is returned."""
        output = self.model(x.to(next(self.model.parameters()).dtype))
        self._outputs.append(output.detach().double())
        loss = output.square().mean()
        loss = loss if by is None else by(loss)
        loss.backward()
        return loss

    def step(
        self,
        optimizer: Optimizer,
        *arguments: Any,
        scale: float | Callable[[str], float] = 1.0,
        call: Callable[..., Any] | None = None,
    ) -> None:
        """Step, and keep the copies.

        Args:
            optimizer: whose step it is.
            arguments: of `step`; with a closure the gradient is that of its last evaluation.
            scale: by which the loss, and so the gradients, are too large; or this by name.
            call: steps it in place of `optimizer.step`.
        """
        own = dict(self.model.named_parameters())
        ids = {id(p) for group in optimizer.param_groups for p in group["params"]}
        weights = {name: p.detach().double().clone() for name, p in own.items()}
        gradients, outputs = self._gradients(scale), self.forget()
        (call or optimizer.step)(*arguments)
        if arguments:
            gradients = self._gradients(scale)
            inside = self.forget()
            outputs = outputs or inside
        updates = {n: p.detach().double() - weights[n] for n, p in own.items() if id(p) in ids}
        self.steps.append(
            {
                "weight": weights,
                "grad": gradients,
                "update": updates,
                "output": {"": torch.cat(outputs)} if outputs else {},
            }
        )

    def forget(self) -> list[Tensor]:
        """Outputs since the last step, which are forgotten."""
        found, self._outputs = self._outputs, []
        return found

    def _gradients(self, scale: float | Callable[[str], float]) -> Found:
        return {
            name: p.grad.double().clone() / (scale(name) if callable(scale) else scale)
            for name, p in self.model.named_parameters()
            if p.grad is not None
        }


def plain(hand: Hand, make: Callable[..., Optimizer], **options: Any) -> None:
    """The loop that everybody writes."""
    optimizer = make(hand.model.parameters(), **{"lr": 0.05, **options})
    for x in DATA:
        optimizer.zero_grad()
        hand.backward(x)
        hand.step(optimizer)


def accumulating(hand: Hand) -> None:
    """Three micro-batches a step."""
    optimizer = AdamW(hand.model.parameters(), lr=0.05)
    for i, x in enumerate(DATA):
        hand.backward(x, lambda loss: loss / 3)
        if i % 3 == 2:
            hand.step(optimizer)
            optimizer.zero_grad()


def in_turn(hand: Hand) -> None:
    """One optimizer steps for each batch, the other for each third."""
    first, second = SGD(hand.model[0].parameters(), lr=0.1), Adam(hand.model[2].parameters(), 0.01)
    for i, x in enumerate(DATA):
        hand.backward(x)
        hand.step(first)
        first.zero_grad()
        if i % 3 == 2:
            hand.step(second)
            second.zero_grad()


def with_closure(hand: Hand, **options: Any) -> None:
    """Several evaluations a step."""
    optimizer = torch.optim.LBFGS(hand.model.parameters(), lr=0.5, max_iter=4, **options)

    def closure(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        return hand.backward(x)

    for x in DATA[:6]:
        hand.step(optimizer, partial(closure, x))


def after_a_pass(hand: Hand) -> None:
    """SGD with a closure, after a pass of the user's own on another batch."""
    optimizer = SGD(hand.model.parameters(), lr=0.1)

    def closure(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        return hand.backward(x)

    for i, x in enumerate(DATA[:6]):
        closure(x)
        hand.step(optimizer, partial(closure, DATA[i + 6]))


def shared(hand: Hand) -> None:
    """The first layer belongs to two optimizers, which both step it."""
    first = SGD(hand.model[0].parameters(), lr=0.1)
    second = Adam(hand.model.parameters(), lr=0.01)
    for x in DATA[:6]:
        first.zero_grad()
        second.zero_grad()
        hand.backward(x)
        hand.step(first)
        hand.step(second)


def growing(hand: Hand) -> None:
    """The first layer comes to the optimizer later, as a group with a rate of its own."""
    optimizer = SGD(hand.model[2].parameters(), lr=0.1, momentum=0.9)
    for i, x in enumerate(DATA):
        if i == 5:
            optimizer.add_param_group({"params": hand.model[0].parameters(), "lr": 0.01})
        hand.model.zero_grad()
        hand.backward(x)
        hand.step(optimizer)


def scaled(
    hand: Hand, make: Callable[..., Optimizer], *, clip: bool = False, **options: Any
) -> None:
    """Under a GradScaler, with steps that it skips; fused optimizers are called all the same."""
    optimizer = make(hand.model.parameters(), **{"lr": 0.05, **options})
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=4)
    fused = bool(options.get("fused"))
    spoiled = (0, 1, 6)
    for i, x in enumerate(DATA):
        optimizer.zero_grad()
        hand.backward(x, scaler.scale)
        if i in spoiled:
            hand.model[2].weight.grad[0, 0] = torch.inf
        if clip or not fused:  # where it is not fused the scaler does so itself before it steps
            scaler.unscale_(optimizer)
        if clip:
            nn.utils.clip_grad_norm_(hand.model.parameters(), 0.1)
        step = partial(scaler.step, optimizer)
        if i in spoiled and not fused:
            step()
            hand.forget()
        else:
            hand.step(optimizer, scale=scaler.get_scale() if fused and not clip else 1, call=step)
        scaler.update()


def scaled_in_turn(hand: Hand, **options: Any) -> None:
    """Two optimizers under one GradScaler: what the other one owns is still scaled."""
    first = SGD(hand.model[0].parameters(), lr=0.1, **options)
    second = SGD(hand.model[2].parameters(), lr=0.01, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for x in DATA[:6]:
        hand.model.zero_grad()
        hand.backward(x, scaler.scale)
        scale = scaler.get_scale()
        hand.step(first, scale=scale, call=partial(scaler.step, first))
        still = lambda name, scale=scale: 1.0 if name.startswith("0") else scale  # noqa: E731
        hand.step(second, scale=still, call=partial(scaler.step, second))
        scaler.update()


class Decayed(SGD):
    """An optimizer that works on the weights before and after the step that it inherits."""

    fails = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Step twice, of which the first time may fail, and be caught."""
        own = [p for group in self.param_groups for p in group["params"]]
        torch._foreach_mul_(own, 0.9)
        if self.fails:
            with pytest.raises(ArithmeticError):
                super().step(self._raise)
        super().step()
        torch._foreach_add_(own, 0.01)

    def _raise(self) -> float:
        raise ArithmeticError


def inherited(hand: Hand) -> None:
    """A step that calls the one of its superclass, which torch wraps with hooks as well."""
    SGD(hand.model.parameters(), lr=0.1)
    optimizer = Decayed(hand.model.parameters(), lr=0.05)
    for i, x in enumerate(DATA):
        optimizer.zero_grad()
        hand.backward(x)
        optimizer.fails = i % 4 == 3
        hand.step(optimizer)


LOOPS: dict[str, Callable[[Hand], None]] = {
    "SGD": partial(plain, make=SGD, momentum=0.9, foreach=False),
    "SGD foreach": partial(plain, make=SGD, momentum=0.9, weight_decay=0.1, foreach=True),
    "SGD fused": partial(plain, make=SGD, momentum=0.9, fused=True),
    "Adam": partial(plain, make=Adam, foreach=False),
    "Adam foreach": partial(plain, make=Adam, foreach=True),
    "Adam fused": partial(plain, make=Adam, fused=True),
    "AdamW foreach": partial(plain, make=AdamW, foreach=True, weight_decay=0.1),
    "AdamW fused": partial(plain, make=AdamW, fused=True, amsgrad=True),
    "accumulation": accumulating,
    "in turn": in_turn,
    "LBFGS": with_closure,
    "LBFGS with line search": partial(with_closure, line_search_fn="strong_wolfe"),
    "closure after a pass": after_a_pass,
    "shared": shared,
    "a group that comes later": growing,
    "a step inside of itself": inherited,
    "GradScaler": partial(scaled, make=SGD, momentum=0.9),
    "GradScaler, foreach": partial(scaled, make=AdamW, foreach=True),
    "GradScaler, fused SGD": partial(scaled, make=SGD, fused=True),
    "GradScaler, fused AdamW": partial(scaled, make=AdamW, fused=True),
    "GradScaler, clipped": partial(scaled, make=SGD, clip=True),
    "GradScaler, in turn": scaled_in_turn,
    "GradScaler, in turn, fused": partial(scaled_in_turn, fused=True),
    "GradScaler, fused and clipped": partial(scaled, make=AdamW, fused=True, clip=True),
}


def assert_row(found: Any, expected: Tensor | None, label: str, *, rounded: bool) -> None:
    """A recorded row is that of a tensor, or there is none."""
    if expected is None:
        assert np.isnan(found).all(), f"{label}: a row where none should be"
        return
    row = reference(expected)
    scale = float(torch.nan_to_num(expected, 0, 0, 0).abs().sum())
    np.testing.assert_array_equal(found[EXACT], row[EXACT], err_msg=label)
    np.testing.assert_allclose(
        found[CLOSE], row[CLOSE], rtol=1e-6, atol=1e-7 * scale, err_msg=label
    )
    if not rounded:  # a difference in float32 may come to lie beyond a power of two
        np.testing.assert_array_equal(found[FIRST_BIN:], row[FIRST_BIN:], err_msg=label)


CASES = [
    *(pytest.param(loop, torch.float32, id=name) for name, loop in LOOPS.items()),
    pytest.param(LOOPS["SGD"], torch.bfloat16, id="SGD, bfloat16"),
    pytest.param(LOOPS["SGD foreach"], torch.float16, id="SGD foreach, float16"),
    pytest.param(LOOPS["LBFGS"], torch.float64, id="LBFGS, float64"),
]


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize(("loop", "dtype"), CASES)
def test_rows_of_parameters_are_those_of_float64(tmp_path, loop, every, dtype, caplog):
    """Weights and gradients that the optimizer found, the updates that it made, and how large these
    are beside the weights, at each recorded step; and the outputs that led there.
    """
    model = seeded(mlp).to(dtype)
    hand = Hand(model)
    with watched(model, tmp_path, every=every) as run:
        loop(hand)
    record = record_of(run)
    assert record.steps.tolist() == list(range(0, len(hand.steps), every))
    ratios = {p.name: p.ratio for p in parameters(record)}
    for i, number in enumerate(record.steps.tolist()):
        step = hand.steps[number]
        for tensor in record.tensors:
            if tensor.kind in step and (tensor.kind != "output" or not tensor.name):
                found, own = record.summary(tensor).rows[i], step[tensor.kind].get(tensor.name)
                label = f"{tensor.kind} of {tensor.name!r} at step {number}"
                assert_row(found, own, label, rounded=tensor.kind == "update")
        for name, ratio in ratios.items():
            update = step["update"].get(name)
            expected = np.nan if update is None else update.norm() / step["weight"][name].norm()
            np.testing.assert_allclose(ratio[i], float(expected), rtol=1e-6)
    assert hooks_anywhere(model) == []
    assert caplog.records == []
