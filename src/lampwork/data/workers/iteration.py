"""What every pass over a loader does, whoever loads: its order, its position, its figures."""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import dataloader as torchs

from lampwork._core import clock
from lampwork.data.drawn import asked_for
from lampwork.data.meter import Pass
from lampwork.data.order import Order, order_of
from lampwork.data.state import Position, Progress
from lampwork.data.workers.contract import Job, Task

if TYPE_CHECKING:
    from lampwork.data.loader import DataLoader


class Iteration(torchs._BaseDataLoaderIter):
    """What torch's two iterators gain.

    The order takes the place of the iterator over the sampler. `_next_data` is timed and not
    `__next__`, so that what torch warns the caller of `__next__` about still points at the user's
    line.
    """

    _pass: Pass
    _position: Position
    _order: Order
    _to_replay: int
    """Batches of a resumed stream that are to be dropped before the first is handed over."""

    def __new__(cls, loader: DataLoader) -> Iteration:
        """An instance of `cls`; of a subclass of it for a stream."""
        stream = loader._dataset_kind == torchs._DatasetKind.Iterable
        return object.__new__(_of_streams(cls) if stream else cls)

    def _next_batch(self) -> tuple[Any, Task, int]:
        """The next batch with its task and the number of its samples; or `StopIteration`."""
        raise NotImplementedError

    def _begin(self, loader: DataLoader, engine: str, *, starting: bool) -> Position | None:
        """Begin a pass once torch's part of it has begun; the state that it goes on from."""
        saved, loader._own.saved = loader._own.saved, None
        self._pass = loader._meter.start(
            self._num_workers,
            starting=starting,
            persistent=self._persistent_workers,
            engine=engine,
        )
        if saved is not None:
            self._base_seed = saved.seed
        stream = self._dataset_kind == torchs._DatasetKind.Iterable
        self._to_replay = saved.batches if saved and stream and not saved.streams else 0
        self._order = order_of(
            loader.sampler,
            loader.batch_sampler,
            state=dict(saved.order) if saved and saved.order and not self._to_replay else None,
            started=self._sampler_iter,  # type: ignore[arg-type]
        )
        self._sampler_iter = self._order
        self._position = saved or Position()
        self._position.seed = self._base_seed
        if stream:
            self._position.workers = self._num_workers if engine != "inline" else 0
        self._position.length = loader._length()
        # The loader must not hold the iterator: its workers end when the loop lets go of it.
        loader._own.progress = Progress(self._position, self._order)
        return saved

    def _next_task(self) -> Task:
        """What is to be loaded next; `StopIteration` at the end of the order."""
        position = self._order.taken + self._order.offset
        index = self._next_index()
        return Task(self._listed(index), position, self._order.stride)

    def _listed(self, index: Any) -> Any:
        """An index as torch's samplers give it: the orders that are known give it as a tensor."""
        if not self._order.known or isinstance(index, int):
            return index
        return index.tolist() if isinstance(index, Tensor) else list(index)

    def _replay(self) -> None:
        """Load again what the loop has had of a stream that cannot tell where it stands."""
        warnings.warn(
            f"{type(self._dataset).__name__} has no state_dict() and load_state_dict(): to resume, "
            f"the {self._to_replay} batches already had are loaded again and dropped",
            stacklevel=4,
        )
        while self._to_replay:
            self._next_batch()
            self._to_replay -= 1

    def __next__(self) -> Any:
        # torch names the call for its profiler, which costs as much as gathering a small batch.
        if torch.autograd._profiler_enabled():
            return super().__next__()
        batch = self._next_data()
        self._num_yielded += 1
        return batch

    def _next_data(self) -> Any:
        asked_s = clock.monotonic_s()
        try:
            if self._to_replay:
                self._replay()
            batch, task, samples = self._next_batch()
        except BaseException as error:
            self._position.finished = isinstance(error, StopIteration)
            self._pass.waited(since_s=asked_s)
            self._pass.failed(error)
            raise
        self._pass.got(samples, since_s=asked_s)
        self._position.batches += 1
        self._position.taken += task.stride * asked_for(task.index)
        return batch


@cache
def _of_streams(kind: type[Iteration]) -> type[Iteration]:
    """The same iterator with torch's `__next__`, which warns of streams longer than they said."""
    return type(kind.__name__, (kind,), {"__next__": torchs._BaseDataLoaderIter.__next__})


def job_of(loader: DataLoader) -> Job:
    """What the loader does with its samples."""
    return Job(
        dataset_kind=loader._dataset_kind,
        auto_collation=loader._auto_collation,
        collate_fn=loader.collate_fn,
        drop_last=loader.drop_last,
        worker_init_fn=loader.worker_init_fn,
        workers=loader.num_workers,
        rng=loader.rng,
        on_error=loader.on_error,
        collating=loader.parallel == "batch" or not loader._auto_collation,
    )
