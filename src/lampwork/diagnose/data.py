"""Findings about the data that a record alone can prove: how long training waited for it."""

from __future__ import annotations

from collections.abc import Iterator

from lampwork.diagnose.finding import Finding, plain
from lampwork.record.reader import Record

STARVED_SHARE = 0.5
STARVED_S = 30.0


def starved(record: Record) -> Iterator[Finding]:
    """`data-starved`: training waits for data.

    Training stands still for its batches more than half of the time. Accused from 30 seconds of
    waiting on, and never for the wait for a few first batches: a small model on small data waits a
    large share of very little time, and nobody minds.

    Known limits: the wait is that of the whole process; where several loaders feed one model, the
    one that holds it up cannot be told from one that waits its turn.

    Source: torch.utils.data, "num_workers"; Mohan et al. 2021, "Analyzing and Mitigating Data
    Stalls in DNN Training".

    Cure: load in more workers, or do less per sample: decode once and keep the result, or move
    augmentation to the device.

        loader = lampwork.DataLoader(dataset, batch_size=64, num_workers="auto")
    """
    for loader in record.loaders:
        stats = loader.stats
        share, wait_s = float(stats.get("wait_share", 0)), float(stats.get("wait_s", 0))
        batches = int(stats.get("batches", 0))
        if share < STARVED_SHARE or wait_s < STARVED_S or batches < 10:
            continue
        yield Finding(
            "data-starved",
            "warn",
            loader.dataset,
            0,
            {"wait_share": plain(share), "wait_s": plain(wait_s), "batches": batches},
            f"Training waits for {loader.dataset} {share:.0%} of the time: load in more workers, "
            "or do less per sample.\n"
            f'loader = lampwork.DataLoader(dataset, num_workers="auto")  # {loader.dataset}',
        )
