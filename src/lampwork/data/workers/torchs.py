"""torch's own workers under our class, measured: where the system has no memfd, and for DataPipes.

Without an arena a batch crosses as torch sends it, and samples are counted by what was asked for.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from torch.utils.data import dataloader as torchs

from lampwork._core import clock
from lampwork.data.meter import Pass, samples_in

if TYPE_CHECKING:
    from lampwork.data.loader import DataLoader

UNKNOWN = sys.maxsize
"""How many samples are asked for where only the batch can tell."""


class _Measured(torchs._BaseDataLoaderIter):
    """What both of torch's iterators gain."""

    _pass: Pass
    _asked: int
    """Samples that were asked for with the batch that has just arrived."""

    def _begin(self, loader: DataLoader, *, starting: bool) -> None:
        self._pass = loader._meter.start(
            loader.num_workers,
            starting=starting,
            persistent=loader.persistent_workers,
            engine="torch" if loader.num_workers else "inline",
        )
        loader._own.progress = None
        stream = loader._dataset_kind == torchs._DatasetKind.Iterable
        self._may_be_fewer = stream and loader._auto_collation
        """Whether a batch may hold fewer than asked for: a stream may end in the middle of one."""

    def _next_data(self) -> Any:
        asked_s = clock.monotonic_s()
        try:
            batch: Any = super()._next_data()
        except BaseException as error:
            self._pass.waited(since_s=asked_s)
            self._pass.failed(error)
            raise
        samples = self._asked
        if self._may_be_fewer or samples == UNKNOWN:
            samples = min(samples, samples_in(batch))
        self._pass.got(samples, since_s=asked_s)
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
class _SingleProcessDataLoaderIter(_Measured, torchs._SingleProcessDataLoaderIter):
    def __init__(self, loader: DataLoader) -> None:
        self._begin(loader, starting=False)
        super().__init__(loader)
        self._pass.waited(since_s=self._pass.began_s)

    def _next_index(self) -> Any:
        index = super()._next_index()
        self._asked = self._asks_for(index)
        return index


class _MultiProcessingDataLoaderIter(_Measured, torchs._MultiProcessingDataLoaderIter):
    def __init__(self, loader: DataLoader) -> None:
        self._begin(loader, starting=True)
        super().__init__(loader)  # ends in `_reset`

    def _reset(self, loader: DataLoader, first_iter: bool = False) -> None:
        if not first_iter:
            self._begin(loader, starting=False)
        # Samples asked for by number of the task, from the sampler to the arrival of the batch.
        self._on_the_way: dict[int, int] = {}
        super()._reset(loader, first_iter)
        self._pass.waited(since_s=self._pass.began_s)

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
