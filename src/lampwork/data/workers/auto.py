"""`num_workers="auto"`: load the first batches here, then with as many workers as it takes.

How long loading takes, and how long the training loop takes for the rest, is known after a few
batches; workers then go on from where this process has come to. They are as many as keep up with
the loop, none where loading takes next to nothing.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from torch.utils.data import dataloader as torchs

from lampwork._core import clock
from lampwork.data.meter import usable_cores
from lampwork.data.state import Position
from lampwork.data.workers.contract import Task
from lampwork.data.workers.inline import InProcess
from lampwork.data.workers.processes import _MultiProcessingDataLoaderIter

if TYPE_CHECKING:
    from lampwork.data.loader import DataLoader

TRIED = 8
"""Batches that are loaded before settling; the first, which warms things up, does not count."""
NEGLIGIBLE = 0.05
"""The share of the time below which loading is not worth a process."""
SPARE = 1.25
"""How much faster than the training loop the workers should be."""


class SettlingIter(InProcess):
    """Loads some batches itself, decides, and passes the rest on."""

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        self._loader = loader
        self._begin_here()

    def _reset(self, loader: DataLoader, first_iter: bool = False) -> None:
        """Begin again: with `persistent_workers` the loader keeps this until it is settled."""
        super()._reset(loader, first_iter)
        self._begin_here()

    def _begin_here(self) -> None:
        self._load_here(self._loader)
        self._rest: Any = None
        self._load_s: list[float] = []
        self._loop_s: list[float] = []
        self._left_s: float | None = None

    def _next_batch(self) -> tuple[Any, Task, int]:
        if self._rest is not None:
            return self._rest._next_batch()
        if len(self._load_s) == TRIED and self._dataset_kind == torchs._DatasetKind.Map:
            return self._settle()
        asked_s = clock.monotonic_s()
        if self._left_s is not None:
            self._loop_s.append(asked_s - self._left_s)
        try:
            batch = super()._next_batch()
        except StopIteration:
            self._decide()
            raise
        self._left_s = clock.monotonic_s()
        self._load_s.append(self._left_s - asked_s)
        return batch

    def _decide(self) -> int:
        """How many workers the loader has from now on."""
        loader = self._loader
        loader._own.unsettled = False
        workers = needed(self._load_s[1:], self._loop_s[1:], usable_cores())
        if self._dataset_kind == torchs._DatasetKind.Iterable:
            workers = 0  # more than one would repeat a stream that does not share itself out
        loader.num_workers = workers
        if loader._iterator is self:
            loader._iterator = None
        return workers

    def _settle(self) -> tuple[Any, Task, int]:
        workers = self._decide()
        if not workers:
            self._load_s.append(0.0)  # decided
            return super()._next_batch()
        # The rest of this epoch is what a loader would give that resumed here.
        loader = self._loader
        loader._own.saved = Position.from_dict(loader.state_dict())
        self._rest = _MultiProcessingDataLoaderIter(loader)
        if loader.persistent_workers:
            loader._iterator = self._rest
        self._order, self._position = self._rest._order, self._rest._position
        # It is one pass still: what has been measured so far counts.
        self._pass.workers, self._pass.engine = workers, self._rest._pass.engine
        self._rest._pass = loader._meter.go_on(self._pass)
        return self._rest._next_batch()


def needed(load_s: list[float], loop_s: list[float], cores: int) -> int:
    """Workers that keep up with a loop, 0 where loading takes a negligible share of the time.

    Args:
        load_s: seconds per batch that loading took, and
        loop_s: seconds that the training loop took between batches.
        cores: never more than these.
    """
    if not load_s or not loop_s:
        return 0
    load, loop = statistics.median(load_s), statistics.median(loop_s)
    if load < NEGLIGIBLE * (load + loop):
        return 0
    return max(1, min(cores, math.ceil(SPARE * load / max(loop, 1e-9))))
