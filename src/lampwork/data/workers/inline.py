"""Loading in the process that trains: without workers, or data that lies in memory already."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch._utils import ExceptionWrapper
from torch.utils.data import dataloader as torchs
from torch.utils.data._utils.pin_memory import pin_memory

from lampwork.data.device import to_device
from lampwork.data.fetch import Fetcher, gather_for
from lampwork.data.gather import UNABLE
from lampwork.data.keyed import own_randomness
from lampwork.data.workers.contract import Epoch, Fetched, Task, sample_at
from lampwork.data.workers.iteration import Iteration, asked_for, job_of

if TYPE_CHECKING:
    from lampwork.data.loader import DataLoader


class InProcess(Iteration):
    """A pass in which this process loads."""

    def _load_here(self, loader: DataLoader) -> None:
        """Begin to load, once torch's part has begun."""
        saved = self._begin(loader, "inline", starting=False)
        self._device = loader.device
        self._keyed = loader.rng == "keyed"
        job = replace(job_of(loader), collating=True)
        state = saved.streams.get(0) if saved else None
        self._gather = gather_for(job, self._dataset)
        self._fetcher = Fetcher(job, self._dataset, Epoch(self._base_seed), state)
        self._pass.waited(since_s=self._pass.began_s)

    def _index(self) -> tuple[Any, int]:
        """The next index and the position of its first sample."""
        position = self._order.taken + self._order.offset
        return self._next_index(), position

    def _next_batch(self) -> tuple[Any, Task, int]:
        while True:
            index, position = self._index()
            if self._gather is not None:
                batch = self._gather(index, self._order.below)
                if batch is not UNABLE:
                    task = Task(index, position, self._order.stride)
                    return self._ready(batch), task, asked_for(index)
            task = Task(self._listed(index), position, self._order.stride)
            fetched = self._fetched(task)
            self._note(task, fetched)
            if not fetched.empty:
                return self._ready(fetched.data), task, fetched.samples
            self._position.taken += task.stride * asked_for(task.index)

    def _fetched(self, task: Task) -> Fetched:
        if not self._keyed:
            return self._fetcher.fetch(task)
        with own_randomness():
            return self._fetcher.fetch(task)

    def _note(self, task: Task, fetched: Fetched) -> None:
        self._pass.skipped += fetched.skipped
        self._pass.loaded(0.0, fetched.slowest_ns / 1e9, sample_at(task, fetched.slowest))
        state = self._fetcher.state()
        if state is not None:
            self._position.streams = {0: state}

    def _ready(self, batch: Any) -> Any:
        if self._pin_memory:
            batch = pin_memory(batch, self._pin_memory_device)
        return batch if self._device is None else to_device(batch, self._device)


# Named as torch's: the name appears in profiles and in error texts.
class _SingleProcessDataLoaderIter(InProcess, torchs._SingleProcessDataLoaderIter):
    """Without workers."""

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        self._load_here(loader)


class InMemoryIter(InProcess):
    """Instead of workers, where making a batch at once is faster than handing it over.

    Indices are drawn as far ahead as for workers, so that the random state is torch's at each step.
    """

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        self._workers: list[Any] = []
        self._ahead: deque[tuple[Any, int]] = deque()
        self._depth = (loader.prefetch_factor or 0) * self._num_workers
        self._begin_here(loader)

    def _reset(self, loader: DataLoader, first_iter: bool = False) -> None:
        super()._reset(loader, first_iter)
        self._begin_here(loader)

    def _begin_here(self, loader: DataLoader) -> None:
        self._load_here(loader)
        self._ahead.clear()
        for _ in range(self._depth):
            self._draw()

    def _draw(self) -> None:
        try:
            self._ahead.append(super()._index())
        except StopIteration:
            pass  # told when what is ahead has been handed over

    def _index(self) -> tuple[Any, int]:
        if not self._ahead:
            raise StopIteration
        drawn = self._ahead.popleft()
        self._draw()
        return drawn

    def _fetched(self, task: Task) -> Fetched:
        try:
            return super()._fetched(task)
        except Exception:  # told as if a worker had told it
            turn = self._position.batches % self._num_workers
            ExceptionWrapper(where=f"in DataLoader worker process {turn}").reraise()
            raise

    def _shutdown_workers(self) -> None:
        """There are none."""
