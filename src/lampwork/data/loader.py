"""torch's DataLoader with another engine: its batches in its order, handed over faster.

Arguments are checked, samplers made and batches collated by torch's own code. What is ours is who
loads (`workers`), how batches cross (`arena`), where the loader stands (`state`), and what it tells
about itself (`meter`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch.utils.data
from torch.utils.data import BatchSampler, Dataset, IterDataPipe, MapDataPipe, Sampler
from torch.utils.data import dataloader as torchs

from lampwork._core.errors import InputError
from lampwork.data.fetch import gather_for
from lampwork.data.gather import UNABLE
from lampwork.data.meter import LoaderStats, Meter, size_bytes, usable_cores
from lampwork.data.state import Position, Progress
from lampwork.data.workers import inline, processes
from lampwork.data.workers import torchs as torchs_engine
from lampwork.data.workers.auto import SettlingIter
from lampwork.data.workers.hiring import Kept
from lampwork.data.workers.iteration import job_of

T_co = TypeVar("T_co", covariant=True)

CHOICES = {
    "parallel": ("batch", "sample"),
    "rng": ("torch", "keyed"),
    "on_error": ("raise", "skip"),
}
SMALL_BATCH = 1 << 20
"""Bytes up to which copying a batch in the training process takes less than handing it over."""
SHARE_OF_MEMORY = 4
"""Held batches stay where the workers put them up to one part in so many of the memory."""


@dataclass
class Own:
    """What belongs to one loader and is no argument.

    Attributes:
        saved: what the next epoch goes on from.
        progress: the epoch it is on, or made last.
        hired: the workers of this epoch that may be kept, and
        kept: those that wait for the next.
        unsettled: whether the number of workers is still to be found out.
    """

    saved: Position | None = None
    progress: Progress | None = None
    hired: Kept | None = None
    kept: Kept | None = None
    unsettled: bool = False


class DataLoader(torch.utils.data.DataLoader[T_co]):
    """`torch.utils.data.DataLoader`: the same batches, handed over through shared memory.

    Takes torch's arguments, keyword for keyword, and yields torch's batches, bit for bit:

        loader = DataLoader(dataset, batch_size=64, shuffle=True, num_workers=4)
        for x, y in loader:
            ...
        print(loader.stats().bottleneck)

    Only the arguments after `in_order` change what torch would do:

    Args:
        num_workers: "auto" tries out how many it takes to keep up with the training loop.
        parallel: "sample" spreads the samples of each batch over the workers, so that a slow one
            holds up nobody; `collate_fn` then runs in the process that trains.
        rng: "keyed" seeds python's, numpy's and torch's generators for each sample by its position
            in the epoch: the same augmentation for any number of workers, and after a resume.
        on_error: "skip" leaves out samples that raise; `stats().skipped` lists them.
        device: where tensors are to arrive, copied one batch ahead.
        arena_bytes: how much memory held batches may take where the workers put them; what is held
            beyond that is copied. By default a quarter of the memory.

    Raises:
        ValueError: as torch's.
        InputError: a ValueError: one of the arguments above has no such value.
    """

    def __init__(
        self,
        dataset: Dataset[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int | Literal["auto"] = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        parallel: Literal["batch", "sample"] = "batch",
        rng: Literal["torch", "keyed"] = "torch",
        on_error: Literal["raise", "skip"] = "raise",
        device: torch.device | str | int | None = None,
        arena_bytes: int | None = None,
    ) -> None:
        for name, value in (("parallel", parallel), ("rng", rng), ("on_error", on_error)):
            if value not in CHOICES[name]:
                choices = " or ".join(map(repr, CHOICES[name]))
                raise InputError(f"{name} is {value!r}: pass {choices}")
        if arena_bytes is not None and arena_bytes < 0:
            raise InputError(f"arena_bytes is {arena_bytes}: pass a number of bytes, 0 or more")
        if isinstance(num_workers, str) and num_workers != "auto":
            raise InputError(f"num_workers is {num_workers!r}: pass a number or 'auto'")
        self._own.unsettled = num_workers == "auto"
        if num_workers == "auto":
            num_workers = usable_cores()  # until the first batches have told how many it takes
        self.parallel = parallel
        self.rng = rng
        self.on_error = on_error
        self.device = None if device is None else torch.device(device)
        self.arena_bytes = arena_bytes
        super().__init__(
            dataset,
            batch_size,
            shuffle,
            sampler,
            batch_sampler,
            num_workers,
            collate_fn,
            pin_memory,
            drop_last,
            timeout,
            worker_init_fn,
            multiprocessing_context,
            generator,
            prefetch_factor=prefetch_factor,
            persistent_workers=persistent_workers,
            pin_memory_device=pin_memory_device,
            in_order=in_order,
        )
        if parallel == "sample" and self._dataset_kind == torchs._DatasetKind.Iterable:
            raise InputError(
                f"parallel='sample' spreads the indices of a batch, and {type(dataset).__name__} "
                "is an IterableDataset, which has none: pass parallel='batch'"
            )

    def stats(self) -> LoaderStats:
        """What the current epoch, or else the last one, has cost so far; all zero before the first.

        May be called at any time: it changes nothing. A later `iter(loader)` starts over.
        """
        return self._meter.stats()

    def state_dict(self) -> dict[str, Any]:
        """Where the training loop stands: fit for `torch.save`, whatever has been loaded ahead.

        A few hundred bytes, for any length of the dataset and number of workers. Only the states of
        an `IterableDataset` that has `state_dict`, and the random state for samplers that are not
        torch's own or `DistributedOrder`, come on top.
        """
        if self._own.saved is not None:
            return self._own.saved.to_dict()
        return (self._own.progress or Position()).to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next epoch be the rest of the one that `state_dict` was called in.

        The loader may have other `num_workers` and be one of another number of ranks. Nothing is
        loaded again, except from an `IterableDataset` without `state_dict`, with a warning.

        Raises:
            InputError: the state is not of such a loader.
        """
        saved = Position.from_dict(state)
        if saved is not None:
            self._check_fits(saved)
        self._own.saved = saved
        self._own.progress = None

    def _check_fits(self, saved: Position) -> None:
        if saved.length != self._length():
            raise InputError(
                f"the state is of a dataset of {saved.length} samples, this one has "
                f"{self._length()}: load it with the dataset it was saved with"
            )
        workers = 0 if self._own.unsettled else self.num_workers
        if saved.workers is not None and max(1, saved.workers) != max(1, workers):
            raise InputError(
                f"the state holds the streams of {saved.workers} workers, this loader has "
                f"{self.num_workers}: an IterableDataset shares out its samples by worker, so "
                f"pass num_workers={saved.workers}"
            )

    def _length(self) -> int | None:
        """Of a map-style dataset that tells it."""
        if self._dataset_kind == torchs._DatasetKind.Iterable:
            return None
        try:
            return len(self.dataset)  # type: ignore[arg-type]
        except TypeError:
            return None

    # Its own alone: a copy gets none of it. A cached property because Lightning records attributes
    # that are set while it has a loader made, and sets them on another loader.
    @functools.cached_property
    def _own(self) -> Own:
        return Own()

    @functools.cached_property
    def _meter(self) -> Meter:
        stream = self._dataset_kind == torchs._DatasetKind.Iterable
        batches = self.batch_sampler
        own = (
            batches is not None and type(batches) is not BatchSampler
        )  # the sampler is unused then
        return Meter(
            type(self.dataset).__name__,
            length=self._length(),
            batch_size=self.batch_size,
            order=None if stream else type(batches if own else self.sampler).__name__,
            stream=stream,
        )

    def __getstate__(self) -> dict[str, Any]:
        # A copy measures its own epochs and has workers of its own.
        own = ("_meter", "_own", "_iterator")
        return {name: value for name, value in vars(self).items() if name not in own} | {
            "_iterator": None
        }

    def _budget(self) -> int:
        if self.arena_bytes is not None:
            return self.arena_bytes
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // SHARE_OF_MEMORY

    def _get_iterator(self) -> torchs._BaseDataLoaderIter:
        piped = isinstance(self.dataset, IterDataPipe | MapDataPipe)
        if self._own.unsettled and not piped:
            return SettlingIter(self)
        if self.num_workers == 0:
            engine = torchs_engine if piped else inline
            return engine._SingleProcessDataLoaderIter(self)
        self.check_worker_number_rationality()
        if piped or not _arena_works():
            return torchs_engine._MultiProcessingDataLoaderIter(self)
        if self._in_memory():
            return inline.InMemoryIter(self)
        return processes._MultiProcessingDataLoaderIter(self)

    def _in_memory(self) -> bool:
        """Whether a batch is made here faster than it is handed over, and nobody can tell."""
        gather = gather_for(job_of(self), self.dataset) if self.worker_init_fn is None else None
        if gather is None or not self.batch_size:
            return False
        one = gather([0])
        return one is not UNABLE and self.batch_size * size_bytes(one) <= SMALL_BATCH


def _arena_works() -> bool:
    return hasattr(os, "memfd_create") and hasattr(os, "pidfd_open")
