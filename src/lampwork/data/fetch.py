"""From indices to a batch: the dataset is asked sample by sample, then `collate_fn`.

What torch's fetchers do, in the same order, with a look at the clock after each sample; and, where
asked for, with a seed for each sample or without those that raise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import Any

from torch.utils.data import _DatasetKind

from lampwork.data.gather import UNABLE, Gather, gather_of
from lampwork.data.keyed import seed_sample
from lampwork.data.workers.contract import Epoch, Fetched, Job, Task

ENDED = {"lampwork": "ended"}
"""Told instead of the state of a stream that has ended: many then begin anew by themselves."""


def _nowhere(_: int) -> None:
    pass


class Interrupted(Exception):
    """The trainer wants no more of this batch."""


class Fetcher:
    """Fulfils the tasks of one epoch with one copy of a dataset.

    Args:
        job: what to do.
        dataset: whose samples.
        epoch: the epoch's settings.
        state: what a stateful `IterableDataset` is to go on from.
        on_sample: told the place in the batch before each sample; may raise `Interrupted`.
        gather: makes whole batches at once, where there is a way.
    """

    def __init__(
        self,
        job: Job,
        dataset: Any,
        epoch: Epoch,
        state: Any = None,
        on_sample: Callable[[int], None] = _nowhere,
        gather: Gather | None = None,
    ) -> None:
        self._gather = gather
        self._job = job
        self._dataset = dataset
        self._seed = epoch.seed
        self._on_sample = on_sample
        self._keyed = job.rng == "keyed"
        self._skipping = job.on_error == "skip"
        self._ended = state == ENDED
        self._stream: Iterator[Any] | None = None
        if job.dataset_kind == _DatasetKind.Iterable:
            self._stream = _stream(dataset, None if self._ended else state)

    def fetch(self, task: Task) -> Fetched:
        """The batch of a task.

        Raises:
            StopIteration: an `IterableDataset` has no more.
            Exception: whatever the dataset or `collate_fn` raises.
        """
        fetched = Fetched()
        if self._gather is not None:
            batch = self._gather(task.index)
            if batch is not UNABLE:
                fetched.data, fetched.samples = batch, len(task.index)
                return fetched
        if self._job.auto_collation:
            samples = self._samples(task, fetched)
            fetched.samples = len(samples)
            fetched.empty = not samples and bool(fetched.skipped)
        else:
            samples = self._single(task, fetched)
        if not fetched.empty:
            fetched.data = self._job.collate_fn(samples) if self._job.collating else samples
        return fetched

    def state(self) -> Any:
        """Where a stateful `IterableDataset` stands, None for any other."""
        state = _state(self._dataset, self._stream) if self._stream is not None else None
        return ENDED if self._ended and state is not None else state

    def _samples(self, task: Task, fetched: Fetched) -> list[Any]:
        if self._stream is not None:
            return self._from_stream(task, fetched)
        together = getattr(self._dataset, "__getitems__", None)
        if not together:
            return self._each(task, fetched)
        try:
            self._before(0, task)
            return together(task.index)
        except Exception:
            if not self._skipping:
                raise
            return self._each(task, fetched)

    def _each(self, task: Task, fetched: Fetched) -> list[Any]:
        samples = []
        dataset, before = self._dataset, self._on_sample
        keyed, skipping = self._keyed, self._skipping
        slowest_ns, slowest = 0, 0
        began_ns = perf_counter_ns()
        for place, index in enumerate(task.index):
            before(place)
            if keyed:
                seed_sample(self._seed, task.position + place * task.stride)
            if skipping:
                try:
                    samples.append(dataset[index])
                except Exception as error:
                    self._skip(error, index, fetched)
            else:
                samples.append(dataset[index])
            now_ns = perf_counter_ns()
            if now_ns - began_ns > slowest_ns:
                slowest_ns, slowest = now_ns - began_ns, place
            began_ns = now_ns
        fetched.slowest_ns, fetched.slowest = slowest_ns, slowest
        return samples

    def _single(self, task: Task, fetched: Fetched) -> Any:
        """Without automatic batching: one index, or whatever the sampler gives, is one batch."""
        if self._ended:
            raise StopIteration
        fetched.samples = len(task.index) if isinstance(task.index, list) else 1
        self._before(0, task)
        try:
            return next(self._stream) if self._stream is not None else self._dataset[task.index]
        except StopIteration:
            raise
        except Exception as error:
            self._skip(error, task.index, fetched)
            fetched.samples, fetched.empty = 0, True

    def _from_stream(self, task: Task, fetched: Fetched) -> list[Any]:
        if self._ended:
            raise StopIteration
        assert self._stream is not None
        samples = []
        for place, _ in enumerate(task.index):
            self._before(place, task)
            try:
                samples.append(next(self._stream))
            except StopIteration:
                self._ended = True
                break
            except Exception as error:
                # It costs its place in the batch, as it does in a map-style dataset.
                self._skip(error, task.position + place, fetched)
        short = len(samples) + len(fetched.skipped) < len(task.index)
        if (not samples and not fetched.skipped) or (self._job.drop_last and short):
            raise StopIteration
        return samples

    def _before(self, place: int, task: Task) -> None:
        self._on_sample(place)
        if self._keyed:
            seed_sample(self._seed, task.position + place * task.stride)

    def _skip(self, error: Exception, index: Any, fetched: Fetched) -> None:
        if not self._skipping or isinstance(error, Interrupted):
            raise error
        fetched.skipped.append((_plain(index), f"{type(error).__name__}: {error}"))


def gather_for(job: Job, dataset: Any) -> Gather | None:
    """A way to make the whole batches of a job at once, where that makes no difference."""
    by_sample = job.rng == "keyed" or job.on_error == "skip" or not job.collating
    if by_sample or not job.auto_collation or job.dataset_kind == _DatasetKind.Iterable:
        return None
    return gather_of(dataset, job.collate_fn)


def _plain(index: Any) -> Any:
    """An index as it can be shown: of a batched index the whole list."""
    return index if isinstance(index, int | str) else repr(index)


def _stream(dataset: Any, state: Any) -> Iterator[Any]:
    """An iterator over an `IterableDataset`, from where it stood in `state`."""
    if state is None:
        return iter(dataset)
    if hasattr(dataset, "load_state_dict"):
        dataset.load_state_dict(state)
        return iter(dataset)
    stream: Any = iter(dataset)
    stream.load_state_dict(state)
    return stream


def _state(dataset: Any, stream: Any) -> Any:
    for stateful in (dataset, stream):
        if hasattr(stateful, "state_dict") and hasattr(stateful, "load_state_dict"):
            return stateful.state_dict()
    return None
