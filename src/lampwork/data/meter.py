"""Who waits for whom: how long a training loop stands still for its batches.

A `Pass` is one epoch of a loader; the iterator that makes the pass writes into it. A `Meter`
belongs to a loader and tells about its latest pass, so an iterator that was left behind cannot
spoil the figures of the one that replaced it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sized
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from lampwork._core import clock, meters

WORTH_A_CURE = 0.1
"""The share of waiting from which a faster loader is worth the trouble."""
SLOWEST = 5
"""How many of the slowest samples are told."""
MOST_SKIPPED = 100
"""Skipped samples that a record tells of."""
_TOTALS = ("batches", "samples", "wait_s", "first_wait_s", "epoch_s", "opening_s")
HEAD_OF_LINE = 4
"""A sample holds up the others if it took so many times as long as a whole batch does."""


@dataclass(frozen=True)
class LoaderStats:
    """What the current or last epoch of a loader cost the training loop.

    Attributes:
        batches: how many were handed over.
        samples: how many these batches held. Exact for a map-style dataset; where torch's own
            workers load an `IterableDataset`, the leading dimension of each batch's first tensor.
        wait_s: seconds the training loop waited, including the start of the workers.
        epoch_s: seconds from the start of the epoch to the loader's last answer, so work on the
            last batch counts only once the loader was asked for another.
        wait_share: `wait_s / epoch_s`, from 0 to 1.
        skipped: the samples that were left out, as (index, error text).
        engine: what loads: "arena" is workers that hand over in shared memory, "inline" the
            process that trains, "torch" torch's own workers, where the system has no memfd.
        bottleneck: one sentence: who waits for whom, and what to do about it.
        samples_per_s: throughput of the epoch.
        busy_share: share of their time in which the workers loaded, from 0 to 1; None without.
        ready_share: share of the batches that lay ready when they were asked for, from 0 to 1.
        slowest: the samples that took longest, as (index, seconds), the slowest first.
    """

    batches: int
    samples: int
    wait_s: float
    epoch_s: float
    wait_share: float
    skipped: list[tuple[Any, str]]
    engine: str
    bottleneck: str
    samples_per_s: float = 0.0
    busy_share: float | None = None
    ready_share: float = 0.0
    slowest: list[tuple[Any, float]] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.batches} batches, {self.samples} samples in {self.epoch_s:.3g} s, "
            f"{self.wait_s:.3g} s of it waiting. {self.bottleneck}"
        )


class Pass:
    """One pass over a loader, as the iterator that makes it writes it down.

    Args:
        workers: how many processes load.
        starting: whether they are started for this pass.
        persistent: whether they stay for the next one.
        engine: what loads, see `LoaderStats`.
    """

    def __init__(
        self, workers: int, *, starting: bool, persistent: bool, engine: str = "torch"
    ) -> None:
        self.workers = workers
        self.starting = starting
        self.persistent = persistent
        self.engine = engine
        self.batches = self.samples = self.ready = 0
        self.wait_s = self.first_wait_s = self.busy_s = self.opening_s = 0.0
        self.died: str | None = None
        self.skipped: list[tuple[Any, str]] = []
        self.slowest: list[tuple[float, Any]] = []
        self.began_s = self.answered_s = clock.monotonic_s()

    @property
    def epoch_s(self) -> float:
        """Seconds from the beginning to the loader's last answer."""
        return self.answered_s - self.began_s

    @property
    def wait_share(self) -> float:
        """The share of it that the training loop waited."""
        return self.wait_s / self.epoch_s if self.epoch_s > 0 else 0.0

    @property
    def busy_share(self) -> float | None:
        """The share of the workers' time in which they loaded."""
        if not self.workers or not self.busy_s or not self.epoch_s:
            return None
        return min(1.0, self.busy_s / (self.workers * self.epoch_s))

    def failed(self, error: BaseException) -> None:
        """Instead of a batch came this error; noted is that of a worker that died."""
        # torch's words, which ours begin with: an error that a worker only passes on has others.
        if type(error) is RuntimeError and str(error).startswith("DataLoader worker (pid"):
            self.died = str(error)

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

    def loaded(self, busy_s: float, slowest_s: float, slowest: Any, *, ready: bool = False) -> None:
        """How the batch that comes next was made.

        Args:
            busy_s: seconds that a worker spent on it.
            slowest_s: seconds that the slowest of its samples took.
            slowest: the index of that sample.
            ready: whether it lay there when it was asked for.
        """
        self.busy_s += busy_s
        self.ready += ready
        if len(self.slowest) < SLOWEST or slowest_s > self.slowest[-1][0]:
            named = slowest if isinstance(slowest, int | str) else repr(slowest)[:80]
            self.slowest.append((slowest_s, named))
            self.slowest.sort(key=lambda entry: -entry[0])
            del self.slowest[SLOWEST:]


class Meter:
    """Tells about the latest pass over one loader.

    Args:
        dataset: the name of the dataset's class, for reports on loaders that a script made.
        facts: what else a record is to tell of the loader, as plain values.
    """

    def __init__(self, dataset: str, **facts: Any) -> None:
        self.dataset = dataset
        self._facts = facts
        self._pass: Pass | None = None
        self._passes = 0
        # Of the passes before the latest, and of those before the one before it.
        self._past = self._long_past = dict.fromkeys(_TOTALS, 0)

    def start(self, workers: int, **settings: Any) -> Pass:
        """A new pass begins now; the arguments are those of `Pass`."""
        meters.enter(self)
        self._passes += 1
        self._long_past, self._past = self._past, self._total()
        self._pass = Pass(workers, **settings)
        return self._pass

    @property
    def active_s(self) -> float:
        """When the loader last answered."""
        return self._pass.answered_s if self._pass is not None else 0.0

    def figures(self) -> dict[str, Any]:
        """As `stats`, for a record: plain values, and of skipped samples the first ones.

        On top come the facts, `workers`, `passes`, `died` (what a worker died of), and under
        `total` the sums over all passes.
        """
        told = asdict(self.stats())
        told |= self._facts | {"skipped": told["skipped"][:MOST_SKIPPED], "passes": self._passes}
        if self._pass is None:
            return told
        latest = {"workers": self._pass.workers, "died": self._pass.died}
        return told | latest | {"total": self._total()}

    def totals(self) -> tuple[float, int]:
        """Seconds waited and samples handed over in all passes."""
        total = self._total()
        return total["wait_s"], int(total["samples"])

    def _total(self) -> dict[str, float]:
        latest = self._pass
        new = {name: 0 if latest is None else getattr(latest, name) for name in _TOTALS}
        return {name: self._past[name] + new[name] for name in _TOTALS}

    def go_on(self, latest: Pass) -> Pass:
        """The pass before the latest goes on in its place."""
        self._past = self._long_past
        self._passes -= 1
        self._pass = latest
        return latest

    def stats(self) -> LoaderStats:
        """The figures of the latest pass, all zero before the first."""
        latest = self._pass or Pass(0, starting=False, persistent=False)
        epoch_s = latest.epoch_s
        return LoaderStats(
            batches=latest.batches,
            samples=latest.samples,
            wait_s=latest.wait_s,
            epoch_s=epoch_s,
            wait_share=latest.wait_share,
            skipped=list(latest.skipped),
            engine=latest.engine,
            bottleneck=_bottleneck(latest),
            samples_per_s=latest.samples / epoch_s if epoch_s > 0 else 0.0,
            busy_share=latest.busy_share,
            ready_share=latest.ready / latest.batches if latest.batches else 0.0,
            slowest=[(index, seconds) for seconds, index in latest.slowest],
        )


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


def size_bytes(batch: Any) -> int:
    """Bytes of all tensors in a batch."""
    leaves = tree_leaves(batch)
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _holds_samples(field: Any) -> bool:
    return isinstance(field, list | tuple | Mapping) or _shape(field) is not None


def _shape(value: Any) -> tuple[int, ...] | None:
    try:
        shape = value.shape
    except Exception:  # also a nested tensor, which has the attribute and refuses to tell
        return None
    return shape if isinstance(shape, tuple) else None


def _bottleneck(latest: Pass) -> str:
    wait_share = latest.wait_share
    if latest.batches == 0:
        return "No batch has been loaded yet: iterate over the loader first."
    if latest.batches == 1:
        return "Only one batch has been loaded: too few to tell who waits."
    if wait_share < WORTH_A_CURE:
        return (
            f"The data waits for the training loop, which waits {wait_share:.0%} of the time: "
            "a faster loader would gain next to nothing."
        )
    return f"The training loop waits for the data {wait_share:.0%} of the time: {_cure(latest)}."


def _cure(latest: Pass) -> str:
    if latest.workers == 0:
        return "load in the background with num_workers=2 or more"
    if latest.first_wait_s > latest.wait_s / 2 and latest.starting:
        return (
            "most of that is the first batch, for which the workers had to start, and "
            + ("they stay" if latest.persistent else "with persistent_workers=True they would stay")
            + " for the next epoch"
        )
    if (slow := _head_of_line(latest)) is not None:
        return slow
    if latest.busy_share is None:
        return f"raise num_workers above {latest.workers}, or do less per sample in __getitem__"
    if latest.busy_share < 0.5:
        return (
            f"the workers load only {latest.busy_share:.0%} of the time, so handing over is what "
            "takes long: make batches of fewer and larger tensors, or raise prefetch_factor"
        )
    return _more_workers(latest)


def _head_of_line(latest: Pass) -> str | None:
    """What to do about single samples for which all others have to wait."""
    typical_s = latest.busy_s / latest.batches
    slow_s = sum(seconds for seconds, _ in latest.slowest)
    if slow_s < latest.wait_s / 4 or latest.slowest[0][0] < HEAD_OF_LINE * typical_s:
        return None
    seconds, index = latest.slowest[0]
    return (
        f"sample {index} alone took {seconds:.2g} s, and all batches behind it waited: make it "
        'faster, or spread the samples of a batch over the workers with parallel="sample"'
    )


def _more_workers(latest: Pass) -> str:
    busy = f"the {latest.workers} workers load {latest.busy_share:.0%} of the time"
    cores = usable_cores()
    # As many as keep up with the training loop when it does not wait.
    training_s = max(latest.epoch_s - latest.wait_s, 1e-9)
    wanted = math.ceil(latest.busy_s / training_s)
    less = "do less per sample in __getitem__"
    if latest.workers >= cores:
        return f"{busy}, and there are {cores} cores: {less}"
    enough = f"; {wanted} would keep up" if wanted <= cores else ""
    return f"{busy}: raise num_workers above {latest.workers}{enough}, or {less}"
