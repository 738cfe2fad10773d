"""The index batches of one epoch, in turn, and how to make the same again from a few numbers.

torch's samplers make a Python list of all indices. The orders of its own samplers, and of ours, are
known here: they are kept as a tensor, or not at all, and go on from any place at once. Only exact
types are known; what any other sampler gives is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
)

from lampwork.data import replay
from lampwork.data.shard import CHUNK, DistributedOrder

Indices = Tensor | range


class Order(Protocol):
    """The index batches of one epoch.

    Attributes:
        known: whether batches are tensors or ranges of indices that stand for a list of ints (or,
            without automatic batching, single ints), rather than whatever the sampler gave.
        taken: how many samples of the epoch all ranks together have been given.
        offset: this process's rank, and
        stride: how many ranks there are: sample j of the next batch stands at position
            taken + offset + j * stride of the order.
    """

    known: bool
    taken: int
    offset: int
    stride: int

    def __next__(self) -> Any:
        """What the index sampler gives next; `StopIteration` at the end."""
        ...

    def state(self, *, batches: int, taken: int) -> dict[str, Any]:
        """What makes this order go on after so many batches and samples, in plain values."""
        ...


def order_of(
    sampler: Any,
    batch_sampler: Any,
    *,
    state: dict[str, Any] | None = None,
    started: Iterator[Any] | None = None,
) -> Order:
    """The order that torch's loader takes from a sampler and a batch sampler.

    Args:
        sampler: the attribute of the loader.
        batch_sampler: likewise; without one, single indices are given.
        state: go on from what `Order.state` told, in this process or another, with this number of
            ranks or another.
        started: the iterator over the index sampler, where there is one already that has not been
            asked: some samplers draw when they are asked for one.
    """
    made_by = (state or {}).get("kind")
    batched = batch_sampler is not None
    if not batched or type(batch_sampler) is BatchSampler:
        inner = batch_sampler.sampler if batched else sampler
        sequence = _sequence_of(inner, state)
        if sequence is not None and made_by in (None, "unbegun", sequence.kind):
            size = batch_sampler.batch_size if batched else None
            return _Known(sequence, size, bool(batched and batch_sampler.drop_last), state)
    if made_by == "drawn":
        return _Drawn(batch_sampler if batched else sampler, None, state)
    return _Drawn(batch_sampler if batched else sampler, started, None)


class _Sequence(Protocol):
    """Single indices, one after the other."""

    kind: str
    offset: int
    stride: int

    def take(self, count: int) -> Indices:
        """The next so many, fewer at the end."""
        ...

    def skip(self, count: int) -> None:
        """Leave out the next so many."""
        ...

    def state(self) -> dict[str, Any]:
        """What makes the same sequence from its beginning."""
        ...


def _sequence_of(sampler: Any, state: dict[str, Any] | None) -> _Sequence | None:
    kind = type(sampler)
    if kind is SequentialSampler:
        return _Ascending(len(sampler.data_source))
    if kind is RandomSampler and not sampler.replacement and len(sampler.data_source):
        return _Shuffled(sampler, state)
    if kind is DistributedSampler:
        return _Dealt(_torchs(sampler), state)
    if kind is DistributedOrder:
        return _Dealt(_Ours(sampler), state)
    return None


class _Known:
    """Batches of a known sequence."""

    known = True

    def __init__(
        self, sequence: _Sequence, size: int | None, drop_last: bool, state: dict[str, Any] | None
    ) -> None:
        self._sequence = sequence
        self._size = size
        self._drop_last = drop_last
        self.offset, self.stride = sequence.offset, sequence.stride
        self.taken = 0
        if state is not None and state["kind"] != "unbegun":
            self.taken = state["taken"]
            sequence.skip(self.taken)

    def __iter__(self) -> _Known:
        return self

    def __next__(self) -> Any:
        wanted = 1 if self._size is None else self._size
        indices = self._sequence.take(wanted)
        count = len(indices)
        if not count or (self._drop_last and count < wanted):
            raise StopIteration
        self.taken += count * self.stride
        return int(indices[0]) if self._size is None else indices

    def state(self, *, batches: int, taken: int) -> dict[str, Any]:
        told = self._sequence.state()
        return told if told["kind"] == "unbegun" else told | {"taken": taken}


class _Ascending:
    kind, offset, stride = "ascending", 0, 1

    def __init__(self, size: int) -> None:
        self._left = range(size)

    def take(self, count: int) -> range:
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def skip(self, count: int) -> None:
        self._left = self._left[count:]

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind}


class _Shuffled:
    """`RandomSampler` without replacement: whole permutations, then a part of one.

    Draws from the generators what torch draws, when torch draws it: nothing before the first index
    is asked for, and a last permutation even where no index of it is needed.
    """

    kind, offset, stride = "shuffled", 0, 1

    def __init__(self, sampler: RandomSampler, state: dict[str, Any] | None) -> None:
        self._sampler = sampler
        self._saved = state if state is not None and state["kind"] == self.kind else None
        self._begun: dict[str, Any] | None = None
        self._here = torch.empty(0, dtype=torch.int64)

    def take(self, count: int) -> Tensor:
        if self._begun is None:
            self._begin()
        parts = [self._here[:count]]
        self._here = self._here[count:]
        while (missing := count - sum(map(len, parts))) and self._whole >= 0:
            drawn = self._draw()
            parts.append(drawn[:missing])
            self._here = drawn[missing:]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def skip(self, count: int) -> None:
        if count and self._begun is None:
            self._begin()
        # Whole permutations that are left out have to be drawn all the same.
        while count >= len(self._here) and self._whole >= 0:
            count -= len(self._here)
            self._here = self._draw()
        self._here = self._here[count:]

    def state(self) -> dict[str, Any]:
        return {"kind": "unbegun"} if self._begun is None else self._begun

    def _begin(self) -> None:
        saved = self._saved
        self._size = len(self._sampler.data_source)
        wanted = self._sampler.num_samples
        self._whole, self._rest = divmod(wanted, self._size)
        """Permutations still to come before the last one; -1 after it."""
        self._generator = self._sampler.generator
        if self._generator is not None:
            if saved is not None and "generator" in saved:
                replay.restore(self._generator, saved["generator"])
            told: dict[str, Any] = {"generator": replay.describe(self._generator)}
        else:
            if saved is not None and "seed" in saved:
                seed = saved["seed"]
            else:
                seed = int(torch.empty((), dtype=torch.int64).random_().item())
            self._generator = torch.Generator()
            self._generator.manual_seed(seed)
            told = {"seed": seed}
        self._begun = {"kind": self.kind, **told}

    def _draw(self) -> Tensor:
        drawn = torch.randperm(self._size, generator=self._generator)
        if self._sampler.generator is not None:
            replay.note_permutation(self._sampler.generator, self._size)
        self._whole -= 1
        return drawn if self._whole >= 0 else drawn[: self._rest]


class _Dealt:
    """One order for all ranks, of which this one gets every so-manieth."""

    kind = "dealt"

    def __init__(self, deck: _Ours | _Torchs, state: dict[str, Any] | None) -> None:
        self._deck = deck
        self.offset, self.stride = deck.sampler.rank, deck.sampler.num_replicas
        self._epoch, self._seed = deck.sampler.epoch, deck.sampler.seed
        self._start = self._next = 0
        self._ahead: Tensor = torch.empty(0, dtype=torch.int64)
        if state is not None and state["kind"] == self.kind:
            self._epoch, self._seed = state["epoch"], state["seed"]

    def take(self, count: int) -> Tensor:
        if len(self._ahead) < count:
            first = self._next + len(self._ahead)
            more = self._deck.indices(first, first + max(count, CHUNK), self._start, self._epoch)
            self._ahead = torch.cat([self._ahead, more])
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        self._next += len(taken)
        return taken

    def skip(self, count: int) -> None:
        self._start = count  # of all ranks

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind, "epoch": self._epoch, "seed": self._seed}


class _Ours:
    def __init__(self, sampler: DistributedOrder) -> None:
        self.sampler = sampler

    def indices(self, first: int, last: int, taken: int, epoch: int) -> Tensor:
        return torch.from_numpy(self.sampler.indices(first, last, taken=taken, epoch=epoch))


class _Torchs:
    """`DistributedSampler`: a permutation, padded or cut so that all ranks have as many."""

    def __init__(self, sampler: DistributedSampler[Any]) -> None:
        self.sampler = sampler
        self._rest: Tensor | None = None

    def indices(self, first: int, last: int, taken: int, epoch: int) -> Tensor:
        if self._rest is None:
            self._rest = self._dealt(taken, epoch)
        return self._rest[first:last]

    def _dealt(self, taken: int, epoch: int) -> Tensor:
        sampler = self.sampler
        size = len(sampler.dataset)  # type: ignore[arg-type]
        if sampler.shuffle:
            generator = torch.Generator()
            generator.manual_seed(sampler.seed + epoch)
            order = torch.randperm(size, generator=generator)
        else:
            order = torch.arange(size)
        rest = order[taken:]
        ranks = sampler.num_replicas
        even = len(rest) // ranks * ranks
        if even < len(rest) or not len(rest):
            if sampler.drop_last:
                rest = rest[:even]
            elif len(rest):
                missing = even + ranks - len(rest)
                rest = torch.cat([rest, order.repeat(-(-missing // size))[:missing]])
        return rest[sampler.rank :: ranks].contiguous()


def _torchs(sampler: DistributedSampler[Any]) -> _Torchs:
    return _Torchs(sampler)


class _Drawn:
    """Whatever a sampler of any other kind gives.

    To go on elsewhere, it is asked for the indices from the beginning again, not the dataset for
    its samples, with the random state of the beginning: of torch's global generator, or of the
    sampler's own, or whatever its `state_dict` tells. That takes some kilobytes.
    """

    known, offset, stride = False, 0, 1

    def __init__(
        self, sampler: Any, started: Iterator[Any] | None, state: dict[str, Any] | None
    ) -> None:
        self.taken = 0
        self._own: Tensor | None = None
        inner = getattr(sampler, "sampler", sampler)
        self._stateful = next((s for s in (sampler, inner) if _is_stateful(s)), None)
        self._generator = getattr(inner, "generator", None)
        if not isinstance(self._generator, torch.Generator):
            self._generator = None
        self._sampler = sampler
        self._iterator = started
        self._told: dict[str, Any] | None = None
        if state is not None:
            self._resume(state)

    def __iter__(self) -> _Drawn:
        return self

    def __next__(self) -> Any:
        if self._told is None:
            self._told = self._describe()
        if self._iterator is None:
            self._iterator = iter(self._sampler)
        index = self._draw()
        self.taken += _size(index)
        return index

    def state(self, *, batches: int, taken: int) -> dict[str, Any]:
        if self._told is None:
            return {"kind": "unbegun"}
        return self._told | {"batches": batches, "taken": taken}

    def _draw(self) -> Any:
        assert self._iterator is not None
        if self._own is None:
            return next(self._iterator)
        # Resumed: what it draws comes from the random state that it was begun with.
        outside = torch.get_rng_state()
        torch.set_rng_state(self._own)
        try:
            return next(self._iterator)
        finally:
            self._own = torch.get_rng_state()
            torch.set_rng_state(outside)

    def _describe(self) -> dict[str, Any]:
        if self._stateful is not None:
            return {"kind": "drawn", "sampler": self._stateful.state_dict()}
        if self._generator is not None:
            return {"kind": "drawn", "generator": replay.describe(self._generator)}
        return {"kind": "drawn", "random": replay.raw(torch.get_rng_state())}

    def _resume(self, state: dict[str, Any]) -> None:
        self._told = {name: state[name] for name in state if name not in ("batches", "taken")}
        if "sampler" in state and self._stateful is not None:
            self._stateful.load_state_dict(state["sampler"])
        elif "generator" in state and self._generator is not None:
            replay.restore(self._generator, state["generator"])
        elif "random" in state:
            self._own = replay.unraw(state["random"])
        self._iterator = iter(self._sampler)
        for _ in range(state["batches"]):
            self._draw()
        self.taken = state["taken"]


def _is_stateful(sampler: Any) -> bool:
    return hasattr(sampler, "state_dict") and hasattr(sampler, "load_state_dict")


def _size(index: Any) -> int:
    return len(index) if isinstance(index, list | tuple | Tensor | np.ndarray) else 1
