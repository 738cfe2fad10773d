"""Who waits for whom: how long a training loop stands still for its batches.

An `Epoch` is one pass over a loader; the iterator that makes the pass writes into it. A `Meter`
belongs to a loader and tells about its latest pass, so an iterator that was left behind cannot
spoil the figures of the one that replaced it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any

from lampwork._core import clock

WORTH_A_CURE = 0.1
"""The share of waiting from which a faster loader is worth the trouble."""


@dataclass(frozen=True)
class LoaderStats:
    """What the current or last epoch of a loader cost the training loop.

    Attributes:
        batches: how many were handed over.
        samples: how many these batches held. Exact for a map-style dataset; for an
            `IterableDataset` the leading dimension of each batch's first tensor.
        wait_s: seconds the training loop waited, including the start of the workers.
        epoch_s: seconds from the start of the epoch to the loader's last answer, so work on the
            last batch counts only once the loader was asked for another.
        wait_share: `wait_s / epoch_s`, from 0 to 1.
        skipped: the samples that were left out, as (index, error text).
        engine: what loads: "torch" is torch's own workers, or none.
        bottleneck: one sentence: who waits for whom, and what to do about it.
    """

    batches: int
    samples: int
    wait_s: float
    epoch_s: float
    wait_share: float
    skipped: list[tuple[int, str]]
    engine: str
    bottleneck: str

    def __str__(self) -> str:
        return (
            f"{self.batches} batches, {self.samples} samples in {self.epoch_s:.3g} s, "
            f"{self.wait_s:.3g} s of it waiting. {self.bottleneck}"
        )


class Epoch:
    """One pass over a loader, as the iterator that makes it writes it down.

    Args:
        workers: how many processes load.
        starting: whether they are started for this pass.
        persistent: whether they stay for the next one.
    """

    def __init__(self, workers: int, *, starting: bool, persistent: bool) -> None:
        self.workers = workers
        self.starting = starting
        self.persistent = persistent
        self.batches = 0
        self.samples = 0
        self.wait_s = 0.0
        self.first_wait_s = 0.0
        self.began_s = self.answered_s = clock.monotonic_s()

    def waited(self, since_s: float) -> None:
        """The loader, asked at `since_s`, answered now: with a batch, the end, or an error."""
        self.answered_s = clock.monotonic_s()
        self.wait_s += self.answered_s - since_s

    def got(self, samples: int, since_s: float) -> None:
        """A batch of so many samples arrived now; the loader was asked for it at `since_s`."""
        self.waited(since_s)
        if not self.batches:
            self.first_wait_s = self.wait_s
        self.batches += 1
        self.samples += samples


class Meter:
    """Tells about the latest pass over one loader.

    Args:
        dataset: the name of the dataset's class, for reports on loaders that a script made.
    """

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self._epoch: Epoch | None = None

    def start(self, workers: int, *, starting: bool, persistent: bool) -> Epoch:
        """A new pass begins now; the arguments are those of `Epoch`."""
        if self not in _started:
            _started.append(self)
        self._epoch = Epoch(workers, starting=starting, persistent=persistent)
        return self._epoch

    def stats(self) -> LoaderStats:
        """The figures of the latest pass, all zero before the first."""
        epoch = self._epoch or Epoch(0, starting=False, persistent=False)
        epoch_s = epoch.answered_s - epoch.began_s
        wait_share = epoch.wait_s / epoch_s if epoch_s > 0 else 0.0
        return LoaderStats(
            batches=epoch.batches,
            samples=epoch.samples,
            wait_s=epoch.wait_s,
            epoch_s=epoch_s,
            wait_share=wait_share,
            skipped=[],
            engine="torch",
            bottleneck=_bottleneck(epoch, wait_share),
        )


KEPT = 64
# A meter holds a few numbers and nothing of its loader, so the latest ones may outlive theirs: a
# report at the end of a script is to know the loader that its `main()` dropped.
_started: deque[Meter] = deque(maxlen=KEPT)


def meters() -> list[Meter]:
    """The meters of the loaders that began an epoch in this process, the latest `KEPT` of them.

    In the order in which they first began one.
    """
    return list(_started)


def samples_in(batch: Any) -> int:
    """How many samples a collated batch shows: the leading dimension of its first tensor.

    Where a list of strings or objects comes first, its length; 1 for what has no length at all.
    """
    shape = _shape(batch)
    if shape is not None:
        return shape[0] if shape else 1
    if isinstance(batch, Mapping):
        return samples_in(next(iter(batch.values()), None))
    if isinstance(batch, list | tuple) and batch and _holds_samples(batch[0]):
        return samples_in(batch[0])
    return len(batch) if isinstance(batch, Sized) and not isinstance(batch, str | bytes) else 1


def _holds_samples(field: Any) -> bool:
    return isinstance(field, list | tuple | Mapping) or _shape(field) is not None


def _shape(value: Any) -> tuple[int, ...] | None:
    try:
        shape = value.shape
    except Exception:  # also a nested tensor, which has the attribute and refuses to tell
        return None
    return shape if isinstance(shape, tuple) else None


def _bottleneck(epoch: Epoch, wait_share: float) -> str:
    if epoch.batches == 0:
        return "No batch has been loaded yet: iterate over the loader first."
    if epoch.batches == 1:
        return "Only one batch has been loaded: too few to tell who waits."
    if wait_share < WORTH_A_CURE:
        return (
            f"The data waits for the training loop, which waits {wait_share:.0%} of the time: "
            "a faster loader would gain next to nothing."
        )
    return f"The training loop waits for the data {wait_share:.0%} of the time: {_cure(epoch)}."


def _cure(epoch: Epoch) -> str:
    if epoch.workers == 0:
        return "load in the background with num_workers=2 or more"
    if epoch.first_wait_s > epoch.wait_s / 2 and epoch.starting:
        return (
            "most of that is the first batch, for which the workers had to start, and "
            + ("they stay" if epoch.persistent else "with persistent_workers=True they would stay")
            + " for the next epoch"
        )
    return f"raise num_workers above {epoch.workers}, or do less per sample in __getitem__"
