"""The state of a random generator in a few numbers, where it is known how it came to be.

A generator's state has 5,056 bytes. One that was seeded, and from which then only our loaders drew
(one seed for the workers and some permutations per epoch), is told by its seed and what was drawn.
Where anything else drew, or telling would take longer to replay than is worth it, the bytes
themselves are told.
"""

from __future__ import annotations

import zlib
from base64 import b85decode, b85encode
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

MOST_DRAWN = 50_000_000
"""Numbers that are drawn again at most: a second's work."""


@dataclass
class _History:
    """What was drawn from a generator since it was seeded.

    Attributes:
        runs: permutations of a size, as [size, how many in a row]; size 0 stands for a seed.
        after: the state that this led to.
    """

    seed: int
    after: Tensor
    runs: list[list[int]] = field(default_factory=list)

    def add(self, size: int, after: Tensor) -> None:
        if self.runs and self.runs[-1][0] == size:
            self.runs[-1][1] += 1
        else:
            self.runs.append([size, 1])
        self.after = after


_histories: WeakKeyDictionary[torch.Generator, _History] = WeakKeyDictionary()


_left: WeakKeyDictionary[torch.Generator, Tensor] = WeakKeyDictionary()
"""The state of a generator after what was last drawn from it here."""


def _note_seed(generator: torch.Generator, before: Tensor) -> None:
    """The seed of an epoch's workers was drawn; `before` is the state in which it was."""
    history = _history(generator, before)
    if history is not None:
        history.add(0, generator.get_state())


def describe(generator: torch.Generator) -> dict[str, Any]:
    """What `restore` makes the present state of, on the same or another generator."""
    state = generator.get_state()
    _notice_a_seed(generator, state)
    history = _history(generator, state)
    if history is None or sum(max(1, size) * many for size, many in history.runs) > MOST_DRAWN:
        return {"raw": packed(state.numpy().tobytes())}
    runs = _repeats([tuple(run) for run in history.runs])
    told = {"seed": history.seed, "drawn": runs}
    return told if len(repr(told)) < 400 else {"raw": packed(state.numpy().tobytes())}


def restore(generator: torch.Generator, told: dict[str, Any]) -> None:
    """Bring a generator into the state that was told."""
    if "raw" in told:
        generator.set_state(tensor(unpacked(told["raw"])))
        return
    generator.manual_seed(told["seed"])
    _histories.pop(generator, None)
    for repeats, runs in told["drawn"]:
        for size, many in list(runs) * repeats:
            for _ in range(many):
                before = generator.get_state()
                if size:
                    permutation(size, generator)
                else:
                    torch.empty((), dtype=torch.int64).random_(generator=generator)
                    _note_seed(generator, before)


def permutation(size: int, generator: torch.Generator) -> Tensor:
    """A permutation from a generator that the user has as well, with a note that it was drawn."""
    history = _history(generator, generator.get_state())
    drawn = torch.randperm(size, generator=generator)
    _left[generator] = generator.get_state()
    if history is not None:
        history.add(size, _left[generator])
    return drawn


def packed(content: bytes) -> str:
    """Bytes as short text, fit for JSON."""
    return b85encode(zlib.compress(content)).decode()


def unpacked(text: str) -> bytes:
    """What `packed` made text of."""
    return zlib.decompress(b85decode(text))


def tensor(content: bytes) -> Tensor:
    """A generator's state as torch takes it."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def after_a_seed(state: bytes) -> bytes:
    """The state of a generator of the CPU once a loader has drawn the seed of its workers."""
    trial = torch.Generator()
    trial.set_state(tensor(state))
    torch.empty((), dtype=torch.int64, device="cpu").random_(generator=trial)
    return trial.get_state().numpy().tobytes()


def _notice_a_seed(generator: torch.Generator, now: Tensor) -> None:
    """Note that torch's loader, if it has the same generator, has drawn a seed before the order."""
    pristine = torch.Generator()
    pristine.manual_seed(generator.initial_seed())
    for before in (_left.get(generator), pristine.get_state()):
        if before is None or generator.device.type != "cpu":
            continue
        if after_a_seed(before.numpy().tobytes()) == now.numpy().tobytes():
            _note_seed(generator, before)
            _left[generator] = now
            return


def _history(generator: torch.Generator, state: Tensor) -> _History | None:
    """What led to this state, if it is known."""
    history = _histories.get(generator)
    if history is not None and torch.equal(history.after, state):
        return history
    _histories.pop(generator, None)
    seed = generator.initial_seed()
    pristine = torch.Generator()
    pristine.manual_seed(seed)
    if not torch.equal(pristine.get_state(), state):
        return None
    history = _histories[generator] = _History(seed, state)
    return history


def _repeats(runs: list[tuple[int, ...]]) -> list[list[Any]]:
    """Runs of runs: epochs that were all alike are told once, as [how often, [run, run, …]]."""
    for period in (1, 2, 3, 4):
        whole = len(runs) // period
        if whole and runs[: whole * period] == runs[:period] * whole:
            rest = runs[whole * period :]
            return [[whole, runs[:period]]] + ([[1, rest]] if rest else [])
    return [[1, runs]]
