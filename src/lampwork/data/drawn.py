"""The order of a sampler that is not known: what it gives, and how it gives it once more."""

from __future__ import annotations

import ast
import copy
import random
import warnings
import zlib
from array import array
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lampwork.data import replay
from lampwork.data.keyed import own_randomness

UNBEGUN = {"kind": "unbegun"}
"""The state of an order of which nothing was drawn: whoever goes on from it draws by itself."""

LOOKED_BACK = 4096
"""Batches that may have been drawn ahead of the one that a state is asked for."""


class Drawn:
    """Whatever a sampler of any other kind gives.

    To go on elsewhere it is asked for its indices from the beginning again (the dataset is not
    asked for its samples), with what its `state_dict` told before it was first asked, with the
    `epoch` of then where it has `set_epoch`, and with the random state of then: of its own
    `generator`, and of those of torch's, Python's and numpy's global generators that it drew from.
    That can take some kilobytes. A sampler around another one (`sampler`, `batch_sampler`) has
    what that one has. Other attributes are for the user to set. On the way back the global
    generators are left alone.

    A sampler that draws from a global generator in mid-epoch, while others do too, cannot be made
    to give the same again. Where the indices are ints it is noticed, and warned about.
    """

    kind, known, offset, stride, below = "drawn", False, 0, 1, 0

    def __init__(
        self,
        sampler: Any,
        started: Iterator[Any] | None,
        state: dict[str, Any] | None,
        before: dict[str, Any] | None,
    ) -> None:
        self.taken = 0
        self._sampler = sampler
        self._parts = list(_inward(sampler))
        self._stateful = next((part for part in self._parts if _is_stateful(part)), None)
        self._counts = next((part for part in self._parts if _counts_epochs(part)), None)
        self._asked = False
        self._saved = state
        self._sum: int | None = 0
        self._sums = deque([(0, 0)], maxlen=LOOKED_BACK)
        """Checksums of all indices so far, with `taken`."""
        self._own: dict[str, Any] | None = None
        if state is None:
            self._begin(started, before)
        else:
            self._resume(state, started)

    def __iter__(self) -> Drawn:
        return self

    def __next__(self) -> Any:
        if (saved := self._saved) is not None:
            # Not before: who resumes may still draw from the generators.
            self._saved = None
            self._go_to(saved)
        return self._give()

    def _give(self) -> Any:
        index = self._draw() if self._asked else self._first()
        self.taken += asked_for(index)
        if self._sum is not None:
            self._sum = _checksum(index, self._sum)
        if self._sum is not None:
            self._sums.append((self.taken, self._sum))
        return index

    def state(self, *, batches: int, taken: int) -> dict[str, Any]:
        """As `Order.state`."""
        if self._saved is not None:
            return self._saved
        if not self._asked and not self._told:
            return UNBEGUN
        told = {"kind": self.kind, **self._told, "batches": batches, "taken": taken}
        if self._sum is not None:
            check = next((found for at, found in reversed(self._sums) if at == taken), None)
            told |= {} if check is None else {"check": check}
        return told

    def _begin(self, started: Iterator[Any] | None, before: dict[str, Any] | None) -> None:
        self._told: dict[str, Any] = {}
        if self._stateful is not None:
            self._told["sampler"] = copy.deepcopy(self._stateful.state_dict())
        if self._counts is not None:
            self._told["epoch"] = self._counts.epoch
        a_seed = started is not None
        if started is None:
            before = random_state()
            started = iter(self._sampler)
        self._iterator = started
        if before is not None and (drawn := _drawn_from(before, and_a_seed=a_seed)):
            self._told["iterator"] = drawn

    def _first(self) -> Any:
        """The first index, with a note of what it was drawn from."""
        self._asked = True
        if (generator := self._generator()) is not None:
            self._told["generator"] = replay.describe(generator)
        before = random_state()
        try:
            return next(self._iterator)
        finally:
            if drawn := _drawn_from(before):
                self._told["random"] = drawn

    def _draw(self) -> Any:
        if self._own is None:
            return next(self._iterator)
        # Resumed: the random state that it was begun with goes on beside everybody else's.
        with own_randomness():
            _set_random_state(self._own)
            try:
                return next(self._iterator)
            finally:
                self._own = random_state()

    def _resume(self, state: dict[str, Any], started: Iterator[Any] | None) -> None:
        self.taken = state["taken"]
        apart = ("kind", "batches", "taken", "check")
        self._told = {name: state[name] for name in state if name not in apart}
        if self._stateful is not None and "sampler" in state:
            self._stateful.load_state_dict(copy.deepcopy(state["sampler"]))
            started = None
        if self._counts is not None and self._counts.epoch != state.get(
            "epoch", self._counts.epoch
        ):
            self._counts.set_epoch(state["epoch"])
            started = None
        if started is None or "iterator" in state:
            with own_randomness():
                _set_random_state(_untold(state.get("iterator", {})))
                started = iter(self._sampler)
        self._iterator = started

    def _go_to(self, state: dict[str, Any]) -> None:
        """Draw what has been taken already, from the random state of then."""
        if "generator" in state and (generator := self._generator()) is not None:
            replay.restore(generator, state["generator"])
        self._asked = "random" in state or "generator" in state or state["taken"] > 0
        self.taken, other = 0, False
        with own_randomness():
            _set_random_state(_untold(state.get("random", {})))
            try:
                while self.taken < state["taken"]:
                    self._give()
            except StopIteration:
                other = True
            if "random" in state:
                self._own = random_state()
        other = other or (self._sum is not None and state.get("check", self._sum) != self._sum)
        if other:
            warnings.warn(
                f"{type(self._sampler).__name__} did not give the same {state['taken']} samples "
                "again, so what is left of the epoch is not what it was: let it draw from a "
                "torch.Generator in its attribute `generator`, or have state_dict and "
                "load_state_dict, and set its epoch before",
                stacklevel=2,
            )
        self.taken = state["taken"]

    def _generator(self) -> torch.Generator | None:
        # Looked for when it is needed: some samplers make it when they are first asked.
        found = (getattr(part, "generator", None) for part in self._parts)
        return next((part for part in found if isinstance(part, torch.Generator)), None)


def _inward(sampler: Any) -> Iterator[Any]:
    """A sampler, and those that it was made around."""
    seen: list[Any] = []
    while sampler is not None and not any(sampler is part for part in seen):
        seen.append(sampler)
        yield sampler
        # Not by `or`: a sampler is asked for its length where it is asked whether it is true.
        inner = getattr(sampler, "batch_sampler", None)
        sampler = getattr(sampler, "sampler", None) if inner is None else inner


def _is_stateful(sampler: Any) -> bool:
    return hasattr(sampler, "state_dict") and hasattr(sampler, "load_state_dict")


def _counts_epochs(sampler: Any) -> bool:
    return type(getattr(sampler, "epoch", None)) is int and hasattr(sampler, "set_epoch")


def asked_for(index: Any) -> int:
    """How many samples an index stands for; 1 for an empty one, as it takes a turn all the same."""
    if isinstance(index, Tensor):  # first and by its shape: `len` of a tensor takes a microsecond
        return index.shape[0] or 1 if index.dim() else 1
    return len(index) or 1 if isinstance(index, list | tuple | range | np.ndarray) else 1


def _checksum(index: Any, so_far: int) -> int | None:
    """Of all indices so far and these; None where they are anything but ints."""
    try:
        numbers = array("q", index if isinstance(index, list | tuple) else [index])
    except (TypeError, OverflowError):
        return None
    return zlib.crc32(numbers.tobytes(), so_far)


def random_state() -> dict[str, Any]:
    """The states of the global generators of torch, Python and numpy, as plain values."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys, np.uint32).tobytes(), *rest),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    if "torch" in state:
        torch.set_rng_state(replay.tensor(state["torch"]))
    if "python" in state:
        random.setstate(state["python"])
    if "numpy" in state:
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, np.frombuffer(keys, np.uint32), *rest))


def _drawn_from(before: dict[str, Any], *, and_a_seed: bool = False) -> dict[str, str]:
    """The states before, packed, of those generators that have been drawn from since.

    With `and_a_seed` not counting the seed that a loader draws for its workers.
    """
    now = random_state()
    drawn = {name: state for name, state in before.items() if now[name] != state}
    if and_a_seed and "torch" in drawn and now["torch"] == replay.after_a_seed(drawn["torch"]):
        del drawn["torch"]
    return {name: replay.packed(repr(state).encode()) for name, state in drawn.items()}


def _untold(told: dict[str, str]) -> dict[str, Any]:
    return {name: ast.literal_eval(replay.unpacked(text).decode()) for name, text in told.items()}
