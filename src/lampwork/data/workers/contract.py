"""What is to be done with the samples of an epoch, whoever does it.

A `Job` holds for all epochs of a loader, an `Epoch` for one of them, a `Task` is one batch of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Task(NamedTuple):
    """One batch to be loaded.

    Attributes:
        index: what the sampler gave: a list of indices, or one index without automatic batching.
        position: where its first sample stands in the order of the epoch over all ranks.
        stride: how much further there each next sample of the batch stands.
    """

    index: Any
    position: int = 0
    stride: int = 1


@dataclass(frozen=True)
class Job:
    """What a loader does with its samples; the arguments are those of `DataLoader`.

    Attributes:
        dataset_kind: torch's `_DatasetKind.Map` or `.Iterable`.
        auto_collation: whether the sampler gives lists of indices, of which batches are made.
        collating: whether a batch is made of the samples, or they are handed over as a list.
    """

    dataset_kind: int
    auto_collation: bool
    collate_fn: Callable[[Any], Any]
    drop_last: bool
    worker_init_fn: Callable[[int], None] | None
    workers: int
    rng: str
    on_error: str
    collating: bool = True


@dataclass(frozen=True)
class Epoch:
    """What is new with an epoch.

    Attributes:
        seed: torch's `base_seed`: worker i seeds itself with `seed + i`.
        fresh: whether workers begin as if they had just started, with an unused copy of the
            dataset; those of `persistent_workers` go on with what they have.
        shipped: whether that copy is on its way to them; else they were started with it.
        stream_states: by worker, what a stateful `IterableDataset` is to go on from.
    """

    seed: int
    fresh: bool = True
    shipped: bool = False
    stream_states: dict[int, Any] = field(default_factory=dict)


@dataclass
class Fetched:
    """What came of a task.

    Attributes:
        data: the batch, or the list of samples where the job does not collate.
        samples: how many were loaded.
        skipped: samples that raised and were left out, as (index, error text).
        slowest_ns: the longest time that one sample took.
        slowest: its place in the batch.
        empty: all samples were skipped, so there is no batch.
    """

    data: Any = None
    samples: int = 0
    skipped: list[tuple[Any, str]] = field(default_factory=list)
    slowest_ns: int = 0
    slowest: int = 0
    empty: bool = False


def cut(task: Task, parts: int) -> list[Task]:
    """A task in at most so many parts of about equal size, in order."""
    size = max(1, -(-len(task.index) // parts))
    return [
        Task(task.index[at : at + size], task.position + at * task.stride, task.stride)
        for at in range(0, len(task.index), size)
    ]


def sample_at(task: Task, place: int) -> Any:
    """The index at a place of a batch, or the index as a whole where it is no list."""
    if isinstance(task.index, list) and place < len(task.index):
        return task.index[place]
    return task.index
