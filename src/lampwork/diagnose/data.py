"""Findings about the loader: who waited, for what, and who died; see `batches` for the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lampwork.diagnose.finding import Finding, plain
from lampwork.record.reader import Record

STARVED_SHARE = 0.5
LONG_S = 30.0
SHORT_S = 2.0
"""Waiting that counts, in all, where each batch made training wait for long."""
NOTICED_S = 0.025
"""What is long for a batch: a small model on small data waits much of little time."""
MIN_BATCHES = 10
IDLE = 0.5
"""Workers that load for less of their time than this are not what training waits for."""


class _Waiting(NamedTuple):
    share: float
    wait_s: float
    batches: int


def starved(record: Record) -> Iterator[Finding]:
    """`data-starved`: training waits for data.

    Training stands still for its batches more than half of the time. Accused from 30 seconds of
    waiting on, or from 2 where it is 25 ms a batch and more: a small model on small data waits a
    large share of very little time, and nobody minds. What workers need to start is not counted.
    Where workers are idle meanwhile it is `data-slow-handover`.

    Known limits: the wait is that of the whole process; where several loaders feed one model, the
    one that holds it up cannot be told from one that waits its turn. Only loaders of lampwork
    measure themselves; `lampwork run` makes them such.

    Source: torch.utils.data, "num_workers"; Mohan et al. 2021, "Analyzing and Mitigating Data
    Stalls in DNN Training".

    Cure: load in more workers, or do less per sample: decode once and keep the result, or move
    augmentation to the device.

        loader = lampwork.DataLoader(dataset, batch_size=64, num_workers="auto")
    """
    for loader in record.loaders:
        waiting = _waiting(loader.stats)
        if waiting is None or _handing_over(loader.stats):
            continue
        yield Finding(
            "data-starved",
            "warn",
            loader.dataset,
            0,
            _evidence(waiting),
            f"Training waits for {loader.dataset} {waiting.share:.0%} of the time: load in more "
            "workers, or do less per sample.\n"
            f'loader = lampwork.DataLoader(dataset, num_workers="auto")  # {loader.dataset}',
        )


def slow_handover(record: Record) -> Iterator[Finding]:
    """`data-slow-handover`: data is ready, but handing it over takes long.

    Training waits while its workers are idle. A batch of many small tensors or Python objects is
    pickled in the worker and built anew in the trainer, which takes longer than loading it.
    Accused with the limits of `data-starved`, where building batches takes half of the waiting, or
    where workers load for less than half of the time and no few slow samples hold up the rest.

    Known limits: torch's own workers, where the system has no memfd, do not tell how busy they are.

    Source: pytorch/pytorch issue 123439.

    Cure: let the dataset return few and large tensors instead of many small objects.

        return torch.as_tensor(values)  # in __getitem__, instead of a list of numbers
    """
    for loader in record.loaders:
        waiting, busy = _waiting(loader.stats), loader.stats.get("busy_share")
        if waiting is None or not _handing_over(loader.stats):
            continue
        built_s = float((loader.stats.get("total") or {}).get("opening_s", 0))
        yield Finding(
            "data-slow-handover",
            "warn",
            loader.dataset,
            0,
            {
                **_evidence(waiting),
                "workers_busy_share": None if busy is None else plain(busy),
                "rebuilding_s": plain(built_s),
            },
            f"Batches of {loader.dataset} are loaded quickly and handed over slowly: let the "
            "dataset return few and large tensors instead of many small objects.\n"
            "return torch.as_tensor(values)  # in __getitem__, instead of a list of numbers",
        )


def worker_died(record: Record) -> Iterator[Finding]:
    """`data-worker-died`: a process that loads data died.

    It was killed or exited, and training ended with it. The loader notes the death before it
    raises: signal, process, the sample it was on, and whether the kernel was out of memory.

    Not accused: an exception in the dataset, which is raised in the training loop as it is.

    Known limits: a run that no step was made in is only recorded by `lampwork.watch`, which makes
    its folder at once.

    Source: pytorch/pytorch issue 5040.

    Cure: load in the training process to see what the code does; where memory ran out, have fewer
    workers.

        loader = DataLoader(dataset, num_workers=0)  # the same crash, with its cause
    """
    for loader in record.loaders:
        died = loader.stats.get("died")
        if not died:
            continue
        total = loader.stats.get("total") or loader.stats
        memory = "out of memory" in died
        yield Finding(
            "data-worker-died",
            "fail",
            loader.dataset,
            int(record.meta.get("steps") or 0),
            {
                "error": str(died)[:400],
                "batches": int(total.get("batches", 0)),
                "workers": loader.stats.get("workers"),
            },
            f"A worker that loaded {loader.dataset} died: "
            + (
                "there was not enough memory for so many of them.\n"
                "loader = DataLoader(dataset, num_workers=1, prefetch_factor=2)  # needs less"
                if memory
                else "load in the training process to see what its code does.\n"
                "loader = DataLoader(dataset, num_workers=0)  # the same crash, with its cause"
            ),
        )


def _waiting(stats: Mapping[str, Any]) -> _Waiting | None:
    """How long training waited, all passes together; None where it is not worth a word."""
    total = stats.get("total") or stats
    wait_s, epoch_s = float(total.get("wait_s", 0)), float(total.get("epoch_s", 0))
    if stats.get("workers"):
        first_s = float(total.get("first_wait_s", 0))
        wait_s, epoch_s = wait_s - first_s, epoch_s - first_s
    share = wait_s / epoch_s if epoch_s > 0 else float(stats.get("wait_share", 0))
    batches = int(total.get("batches", 0))
    long = wait_s >= LONG_S or (wait_s >= SHORT_S and wait_s >= NOTICED_S * batches)
    if share < STARVED_SHARE or not long or batches < MIN_BATCHES:
        return None
    return _Waiting(share, wait_s, batches)


def _handing_over(stats: Mapping[str, Any]) -> bool:
    """Whether it is the way of a batch that takes long, and not its making."""
    if not stats.get("workers"):
        return False
    total = stats.get("total") or {}
    if float(total.get("opening_s", 0)) >= 0.5 * float(total.get("wait_s", 0)) > 0:
        return True
    slow_s = sum(float(seconds) for _, seconds in stats.get("slowest") or [])
    busy = stats.get("busy_share")
    return busy is not None and busy < IDLE and slow_s < float(stats.get("wait_s", 0)) / 4


def _evidence(waiting: _Waiting) -> dict[str, Any]:
    return {
        "wait_share": plain(waiting.share),
        "wait_s": plain(waiting.wait_s),
        "batches": waiting.batches,
    }
