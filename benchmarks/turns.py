"""Loaders run in turn: the same epochs by each, one after the other, round by round.

A machine is faster at one time and slower at another. So every round makes new loaders (how
quickly workers answer depends on where they come to run), lets each warm up for an epoch, times one
epoch of each, and turns the order round for the next. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from ratios import Ratio
from torch import Tensor

ROUNDS = 9

Seconds = dict[str, list[float]]
"""Seconds by name of the contender, one for each round."""


def options(question: str | None, *more: str) -> argparse.Namespace:
    """The command line of a benchmark: `--quick`, and flags of its own."""
    parser = argparse.ArgumentParser(description=(question or "").strip().splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of little work, to see that it runs"
    )
    for flag in more:
        parser.add_argument(flag, action="store_true")
    return parser.parse_args()


def epoch_s(loader: Iterable[Any]) -> float:
    """Seconds for an epoch of which the training loop does nothing with the batches."""
    began = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - began


def in_order(names: Iterable[str], turn: int) -> list[str]:
    """Who runs when in a round: each goes first as often as last."""
    return list(names)[:: -1 if turn % 2 else 1]


def in_turn(
    makers: Mapping[str, Callable[[], Iterable[Any]]],
    rounds: int,
    timed: Callable[[Iterable[Any]], float] = epoch_s,
) -> Seconds:
    """Time an epoch of each loader in each round."""
    seconds: Seconds = {name: [] for name in makers}
    for turn in range(rounds):
        loaders = {name: make() for name, make in makers.items()}
        for loader in loaders.values():
            timed(loader)
        for name in in_order(loaders, turn):
            seconds[name].append(timed(loaders[name]))
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Of two contenders, round by round."""
    return Ratio.of([a / b for a, b in zip(above, below, strict=True)])


def digest(batches: Iterable[Any]) -> str:
    """Of all that batches are made of: structure, types, shapes, strides and every bit."""
    found = blake2b(digest_size=16)
    for batch in batches:
        for part in _parts(batch):
            found.update(part)
    return found.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    yield type(value).__name__.encode()
    if isinstance(value, Tensor):
        yield str((value.dtype, value.shape, value.stride())).encode()
        yield value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield repr(key).encode()
            yield from _parts(item)
    elif isinstance(value, list | tuple):
        yield str(len(value)).encode()
        for item in value:
            yield from _parts(item)
    else:
        yield repr(value).encode()


def insist_equal(makers: Mapping[str, Callable[[], Iterable[Any]]]) -> None:
    """Two epochs of all loaders have the same bits, and leave the same random state.

    Raises:
        SystemExit: they differ, so that comparing their speed would mean nothing.
    """
    found = {}
    for name, make in makers.items():
        torch.manual_seed(0)
        loader = make()
        epochs = [digest(loader) for _ in range(2)]
        found[name] = (*epochs, digest([torch.get_rng_state()]))
    if len(set(found.values())) > 1:
        raise SystemExit(f"the batches differ: {found}")
