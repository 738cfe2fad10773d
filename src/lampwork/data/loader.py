"""torch's DataLoader, measured: its batches in its order, and how long the training loop waited.

torch's engine does all the work. Its two iterators are subclassed to time each wait and to count
samples; arguments, batches, order, errors and random state stay torch's own.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, TypeVar

import torch.utils.data
from torch.utils.data import dataloader as engine

from lampwork._core import clock
from lampwork.data.meter import Epoch, LoaderStats, Meter, samples_in

T_co = TypeVar("T_co", covariant=True)

UNKNOWN = sys.maxsize
"""How many samples are asked for where only the batch can tell."""


class DataLoader(torch.utils.data.DataLoader[T_co]):
    """`torch.utils.data.DataLoader` that also tells who waits for whom.

    Takes torch's arguments, keyword for keyword, and yields torch's batches, bit for bit:

        loader = DataLoader(dataset, batch_size=64, shuffle=True, num_workers=4)
        for x, y in loader:
            ...
        print(loader.stats().bottleneck)
    """

    def stats(self) -> LoaderStats:
        """What the current epoch, or else the last one, has cost so far; all zero before the first.

        May be called at any time: it changes nothing. A later `iter(loader)` starts over.
        """
        return self._meter.stats()

    @functools.cached_property
    def _meter(self) -> Meter:
        return Meter(type(self.dataset).__name__)

    def __getstate__(self) -> dict[str, Any]:
        # A copy measures its own epochs.
        return {name: value for name, value in vars(self).items() if name != "_meter"}

    def _get_iterator(self) -> engine._BaseDataLoaderIter:
        if self.num_workers == 0:
            return _SingleProcessDataLoaderIter(self)
        self.check_worker_number_rationality()
        return _MultiProcessingDataLoaderIter(self)


class _Measured(engine._BaseDataLoaderIter):
    """What both of torch's iterators gain.

    `_next_data` is timed and not `__next__`, so that what torch warns the caller of `__next__`
    about still points at the user's line.
    """

    _epoch: Epoch
    _asked: int
    """Samples that were asked for with the batch that has just arrived."""
    _may_be_fewer: bool
    """Whether a batch may hold fewer than were asked for: a stream may end in the middle of one."""

    def _begin(self, loader: DataLoader, *, starting: bool) -> None:
        self._epoch = loader._meter.start(
            loader.num_workers, starting=starting, persistent=loader.persistent_workers
        )
        stream = loader._dataset_kind == engine._DatasetKind.Iterable
        self._may_be_fewer = stream and loader._auto_collation

    def _next_data(self) -> Any:
        asked_s = clock.monotonic_s()
        try:
            batch: Any = super()._next_data()
        except BaseException:
            self._epoch.waited(since_s=asked_s)
            raise
        samples = self._asked
        if self._may_be_fewer or samples == UNKNOWN:
            samples = min(samples, samples_in(batch))
        self._epoch.got(samples, since_s=asked_s)
        return batch

    def _asks_for(self, index: Any) -> int:
        """How many samples are asked for by what the sampler gave for one batch."""
        if not self._auto_collation:
            # Without batches a sample is what the dataset returns, unless the sampler gives lists.
            return len(index) if isinstance(index, list) else 1
        try:
            return len(index)
        except TypeError:  # a slice or a generator
            return UNKNOWN


# Named as torch's: the names appear in profiles and in error texts.
class _SingleProcessDataLoaderIter(_Measured, engine._SingleProcessDataLoaderIter):
    def __init__(self, loader: DataLoader) -> None:
        self._begin(loader, starting=False)
        super().__init__(loader)
        self._epoch.waited(since_s=self._epoch.began_s)

    def _next_index(self) -> Any:
        index = super()._next_index()
        self._asked = self._asks_for(index)
        return index


class _MultiProcessingDataLoaderIter(_Measured, engine._MultiProcessingDataLoaderIter):
    def __init__(self, loader: DataLoader) -> None:
        self._begin(loader, starting=True)
        super().__init__(loader)  # ends in `_reset`

    def _reset(self, loader: DataLoader, first_iter: bool = False) -> None:
        if not first_iter:
            self._begin(loader, starting=False)
        # Samples asked for by number of the task, from the sampler to the arrival of the batch.
        self._on_the_way: dict[int, int] = {}
        super()._reset(loader, first_iter)
        self._epoch.waited(since_s=self._epoch.began_s)

    def _next_index(self) -> Any:
        index = super()._next_index()
        self._on_the_way[self._send_idx] = self._asks_for(index)
        return index

    def _process_data(self, data: Any, worker_idx: int) -> Any:
        # torch has just struck the task off its list. For a map-style dataset that is one task, in
        # whatever order they arrive; tasks that met the end of a stream all asked for as much.
        for task in self._on_the_way.keys() - self._task_info.keys():
            self._asked = self._on_the_way.pop(task)
        return super()._process_data(data, worker_idx)
