"""The index batches of one epoch, in turn, and how to make the same again from a few numbers.

torch's samplers make a Python list of all indices. The orders of its own samplers, and of ours, are
known here: they are kept as a tensor, or not at all, and go on from any place at once. Only exact
types are known; what any other sampler gives is passed on as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
)
from torch.utils.data.dataloader import _InfiniteConstantSampler

from lampwork._core.errors import InputError
from lampwork.data import replay
from lampwork.data.drawn import UNBEGUN, Drawn
from lampwork.data.shard import CHUNK, DistributedOrder, torchs_share

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

    @property
    def below(self) -> int:
        """All indices are from 0 to less than this, 0 where nothing is known of them."""
        ...

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
    before: dict[str, Any] | None = None,
) -> Order:
    """The order that torch's loader takes from a sampler and a batch sampler.

    Args:
        sampler: the attribute of the loader.
        batch_sampler: likewise; without one, single indices are given.
        state: go on from what `Order.state` told, in this process or another, with this number of
            ranks or another.
        started: the iterator over the index sampler, where there is one already that has not been
            asked.
        before: `random_state()` from before `started` was made: some samplers draw already when
            they are asked for an iterator, and without this such an order cannot be made again.

    Raises:
        InputError: the state is of an order of another kind.
    """
    batched = batch_sampler is not None
    inner = sampler
    if batched:
        inner = batch_sampler.sampler if type(batch_sampler) is BatchSampler else None
    begun = state if state is not None and state["kind"] != UNBEGUN["kind"] else None
    sequence = _sequence_of(inner, begun)
    if begun is not None and begun["kind"] != (sequence.kind if sequence else Drawn.kind):
        raise InputError(
            f"the state is of a {begun['kind']} order, which {_named(sampler, batch_sampler)} does "
            "not make: load it into a loader with the sampler it was saved with"
        )
    if sequence is None:
        return Drawn(batch_sampler if batched else sampler, started, begun, before)
    size = batch_sampler.batch_size if batched else None
    return _Known(sequence, size, bool(batched and batch_sampler.drop_last), begun)


def _named(sampler: Any, batch_sampler: Any) -> str:
    custom = batch_sampler is not None and type(batch_sampler) is not BatchSampler
    return type(batch_sampler if custom else sampler).__name__


_NONE = torch.empty(0, dtype=torch.int64, device="cpu")


class _Sequence(Protocol):
    """Single indices, one after the other."""

    kind: str
    offset: int
    stride: int
    below: int

    def take(self, count: int) -> Indices:
        """The next so many, fewer at the end."""
        ...

    def skip(self, count: int) -> None:
        """Leave out the first so many of all ranks."""
        ...

    def state(self) -> dict[str, Any]:
        """What makes the same sequence from its beginning."""
        ...

    def agreed(self, taken: int, *, short: bool) -> int:
        """How many samples all ranks have had, by what this one had and whether its last was short.

        Whichever rank is asked, the answer is the same.
        """
        ...


def _sequence_of(sampler: Any, state: dict[str, Any] | None) -> _Sequence | None:
    kind = type(sampler)
    if kind is SequentialSampler:
        return _Ascending(len(sampler.data_source))
    if kind is _InfiniteConstantSampler:  # of an `IterableDataset`, which does not look at them
        return _Ascending(sys.maxsize)
    if kind is RandomSampler and not sampler.replacement and len(sampler.data_source):
        return _Shuffled(sampler, state)
    if kind is DistributedSampler or kind is DistributedOrder:
        return _Dealt(sampler, state)
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
        self._since = self.taken = state["taken"] if state is not None else 0
        sequence.skip(self.taken)

    @property
    def below(self) -> int:
        """As `Order.below`."""
        return self._sequence.below

    def __iter__(self) -> _Known:
        return self

    def __next__(self) -> Any:
        wanted = 1 if self._size is None else self._size
        indices = self._sequence.take(wanted)
        # By its shape, here and elsewhere: `len` of a tensor takes a microsecond.
        count = indices.shape[0] if isinstance(indices, Tensor) else len(indices)
        if not count or (self._drop_last and count < wanted):
            raise StopIteration
        self.taken += count * self.stride
        return int(indices[0]) if self._size is None else indices

    def state(self, *, batches: int, taken: int) -> dict[str, Any]:
        told = self._sequence.state()
        if told == UNBEGUN:
            return told
        short = self._size is not None and (taken - self._since) % (self._size * self.stride) != 0
        return told | {"taken": self._sequence.agreed(taken, short=short)}


class _Ascending:
    kind, offset, stride = "sequential", 0, 1

    def __init__(self, size: int) -> None:
        self._left = range(size)
        self.below = size

    def take(self, count: int) -> range:
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def skip(self, count: int) -> None:
        self._left = self._left[count:]

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind}

    def agreed(self, taken: int, *, short: bool) -> int:
        return taken


class _Shuffled:
    """`RandomSampler` without replacement: whole permutations, then a part of one.

    Draws from the generators what torch draws, when torch draws it: nothing before the first index
    is asked for, and a last permutation even where no index of it is needed.
    """

    kind, offset, stride = "shuffled", 0, 1

    def __init__(self, sampler: RandomSampler, state: dict[str, Any] | None) -> None:
        self._sampler = sampler
        self._told = state
        self._begun = False
        self._skipped = 0
        self._here, self._at = _NONE, 0
        """A permutation, and the place of its next index."""
        self.below = 0

    def take(self, count: int) -> Tensor:
        if not self._begun:
            self._begin()
        at = self._at
        if at + count <= self._here.shape[0]:
            self._at += count
            return self._here.narrow(0, at, count)
        # Copied, so that the used permutation is gone before the next is drawn.
        parts, self._here, self._at = [self._here[at:].clone()], _NONE, 0
        while (missing := count - sum(map(len, parts))) and self._whole >= 0:
            drawn = self._draw()
            parts.append(drawn[:missing])
            self._here = drawn[missing:]
        return torch.cat(parts)

    def skip(self, count: int) -> None:
        # Not now: who resumes may still draw from the generator before the first index.
        self._skipped = count

    def state(self) -> dict[str, Any]:
        if self._told is not None:
            return {name: self._told[name] for name in self._told if name != "taken"}
        if self._sampler.generator is None:
            return UNBEGUN
        return self._describe(generator=replay.describe(self._sampler.generator))

    def agreed(self, taken: int, *, short: bool) -> int:
        return taken

    def _begin(self) -> None:
        self._begun = True
        self._size = self.below = len(self._sampler.data_source)
        saved, given = self._told or {}, self._sampler.generator
        if saved and saved["size"] != self._size:
            raise InputError(
                f"the state is of a shuffled order of {saved['size']} samples, the sampler has "
                f"{self._size}: load it with the dataset it was saved with"
            )
        self._whole, self._rest = divmod(self._sampler.num_samples, self._size)
        """Permutations still to come before the last one, -1 after it; samples of the last."""
        self._choose_generator(saved, given)
        # Whole permutations that are left out have to be drawn all the same.
        left_out = self._skipped
        while left_out > len(self._here) and self._whole >= 0:
            left_out -= len(self._here)
            self._here = _NONE
            self._here = self._draw()
        self._here = self._here[left_out:]

    def _choose_generator(self, saved: dict[str, Any], given: torch.Generator | None) -> None:
        if given is not None and "seed" not in saved:
            self._generator = given
            if saved:
                replay.restore(given, saved["generator"])
            self._told = saved or self._describe(generator=replay.describe(given))
            return
        self._generator = torch.Generator()
        if "generator" in saved:
            replay.restore(self._generator, saved["generator"])
        else:
            if not saved:
                seed = int(torch.empty((), dtype=torch.int64).random_().item())
                self._told = saved = self._describe(seed=seed)
            self._generator.manual_seed(saved["seed"])

    def _describe(self, **source: Any) -> dict[str, Any]:
        return {"kind": self.kind, "size": len(self._sampler.data_source), **source}

    def _draw(self) -> Tensor:
        self._whole -= 1
        if self._generator is not self._sampler.generator:
            if self._whole < 0 and not self._rest:
                return _NONE  # nobody else has this generator, so nobody can tell
            drawn = torch.randperm(self._size, generator=self._generator)
        else:
            drawn = replay.permutation(self._size, self._generator)
        return drawn if self._whole >= 0 else drawn[: self._rest]


class _Dealt:
    """One order for all ranks, of which this one gets every so-manieth."""

    def __init__(
        self, sampler: DistributedSampler[Any] | DistributedOrder, state: dict[str, Any] | None
    ) -> None:
        self._sampler = sampler
        ours = isinstance(sampler, DistributedOrder)
        self.kind = "keyed distributed" if ours else "distributed"
        self.offset, self.stride = sampler.rank, sampler.num_replicas
        self._told = state
        self._start = self._next = 0
        self.below = 0
        self._share: Tensor | None = None
        self._ahead = _NONE
        if state is not None and (state["seed"] is not None) != sampler.shuffle:
            told = "one that is not shuffled" if sampler.shuffle else "a shuffled one"
            raise InputError(
                f"the state is of {told}, but the sampler has shuffle={sampler.shuffle}: load it "
                f"into a loader whose sampler has shuffle={not sampler.shuffle}"
            )

    def take(self, count: int) -> Tensor:
        # What the order is made from is read when the first index is asked for, as torch does it.
        self._told = self.state()
        if len(self._ahead) < count:
            first = self._next + len(self._ahead)
            more = self._indices(first, first + max(count, CHUNK), self._told)
            self._ahead = torch.cat([self._ahead, more])
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        self._next += len(taken)
        return taken

    def skip(self, count: int) -> None:
        self._start = count

    def state(self) -> dict[str, Any]:
        if self._told is not None:
            return self._told
        seed = self._sampler.seed if self._sampler.shuffle else None
        return {"kind": self.kind, "epoch": self._sampler.epoch, "seed": seed}

    def agreed(self, taken: int, *, short: bool) -> int:
        sampler = self._sampler
        if not isinstance(sampler, DistributedOrder) or sampler.drop_last or sampler.pad:
            return taken
        # Other ranks may have had one sample more, or less, with a last batch.
        return len(sampler.dataset) if short else min(taken, len(sampler.dataset))

    def _indices(self, first: int, last: int, told: dict[str, Any]) -> Tensor:
        seed, epoch = told["seed"] or 0, told["epoch"]
        if isinstance(self._sampler, DistributedOrder):
            found = self._sampler.indices(first, last, taken=self._start, seed=seed, epoch=epoch)
            return torch.from_numpy(found)
        if self._share is None:
            self._share = torchs_share(self._sampler, taken=self._start, seed=seed, epoch=epoch)
        return self._share[first:last]
