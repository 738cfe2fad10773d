"""Question: how do other loaders compare? The same Python datasets and batches, as times torch.

The workloads of `bench_loader_arrays.py` and `bench_loader_small.py`, in order, two workers each:
torchdata's `StatefulDataLoader` and `nodes` (processes, threads), SPDL's `PyTorchDataLoader`
(processes) and `DataLoader` (threads), grain's `mp_prefetch` (processes), and ours. Each runs in a
process of its own, one epoch at a time, in turn. An epoch is timed from its ninth batch to its
last, as some of them start and end their workers with every epoch. The loop does nothing with the
batches.

A peer is left out of a workload, with the reason kept, where it is not installed, fails, or gives
batches that differ from torch's in any bit.

    python -m pip install -e '.[bench]'
    python benchmarks/bench_loader_peers.py [--quick]

Caveat: threads hand over nothing, so that with samples as cheap as these they are as quick as no
workers at all (which is measured, too); samples that take Python some time keep the training loop
waiting for its lock. Each peer has strengths (formats, decoding, device transfer) that this does
not ask for.
"""

from __future__ import annotations

import importlib.metadata
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from contenders import Contender, GaveUp
from ratios import Ratio, write
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import BatchSampler, SequentialSampler, default_collate
from turns import Seconds, digest, in_order, options, ratio
from workloads import Arrays, Dicts, Scenes, scene_batch

WORKERS = 2
STARTED = 8
ROUNDS = 7


@dataclass
class Workload:
    """What all are asked to load."""

    dataset: Any
    batch_size: int
    collate: Callable[[list[Any]], Any] = default_collate

    def indices(self) -> BatchSampler:
        return BatchSampler(SequentialSampler(self.dataset), self.batch_size, drop_last=False)

    def batch(self, indices: list[int]) -> Any:
        return self.collate([self.dataset[index] for index in indices])

    def arguments(self, workers: int = WORKERS) -> dict[str, Any]:
        names = {"batch_size": self.batch_size, "collate_fn": self.collate}
        return {"dataset": self.dataset, "num_workers": workers, **names}


def workload(name: str, batches: int) -> Workload:
    if name == SMALL_IMAGES:
        return Workload(Arrays(128 * batches, 32), 128)
    if name == LARGE_IMAGES:
        return Workload(Arrays(64 * batches, 224), 64)
    if name == DICTS:
        return Workload(Dicts(4 * batches), 4)
    return Workload(Scenes(16 * batches), 16, scene_batch)


SMALL_IMAGES, LARGE_IMAGES = "3×32×32, batch 128", "3×224×224, batch 64"
DICTS, SCENES = "dict of 3 scalars, batch 4", "114 tensors a batch"
BATCHES = {SMALL_IMAGES: 200, LARGE_IMAGES: 60, DICTS: 1_000, SCENES: 100}


def torchs(work: Workload, workers: int = WORKERS) -> Iterable[Any]:
    arguments = work.arguments(workers)
    return torch.utils.data.DataLoader(**arguments, persistent_workers=workers > 0)


def ours(work: Workload, workers: int = WORKERS) -> Iterable[Any]:
    import lampwork as lw

    return lw.DataLoader(**work.arguments(workers), persistent_workers=workers > 0)


def stateful(work: Workload) -> Iterable[Any]:
    from torchdata.stateful_dataloader import StatefulDataLoader

    warnings.filterwarnings("ignore", "'set_vital' is deprecated")  # torchdata's own call
    return StatefulDataLoader(**work.arguments(), persistent_workers=True)


def nodes(work: Workload, method: Literal["thread", "process"]) -> Iterable[Any]:
    from torchdata.nodes import Loader, ParallelMapper, SamplerWrapper

    source = SamplerWrapper(work.indices())
    return Loader(ParallelMapper(source, work.batch, WORKERS, in_order=True, method=method))


def spdl_processes(work: Workload) -> Iterable[Any]:
    from spdl.dataloader import get_pytorch_dataloader

    return get_pytorch_dataloader(**work.arguments(), in_order=True)


def spdl_threads(work: Workload) -> Any:
    from spdl.dataloader import DataLoader

    return DataLoader(
        work.indices(),
        preprocessor=work.batch,
        num_threads=WORKERS,
        buffer_size=2 * WORKERS,
        output_order="input",
    )


@dataclass
class Arrayed:
    """Samples with numpy arrays over the memory of their tensors: grain hands over arrays only."""

    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return tree_map_only(Tensor, Tensor.numpy, self.dataset[index])


@dataclass
class Tensored:
    """Batches of arrays as the batches of tensors that torch's collation would give."""

    batches: Iterable[Any]

    def __iter__(self) -> Any:
        import numpy as np

        for batch in self.batches:
            tensors = tree_map_only(np.ndarray, torch.from_numpy, batch)
            yield list(tensors) if self.listed(tensors) else tensors

    @staticmethod
    def listed(batch: Any) -> bool:
        return isinstance(batch, tuple) and len(batch) == 2  # default_collate makes tuples lists


def grains(work: Workload) -> Iterable[Any]:
    import grain

    if work.collate is not default_collate:
        raise NotImplementedError("its workers hand over stacked arrays, not samples as they are")
    batches = grain.MapDataset.source(Arrayed(work.dataset)).batch(work.batch_size)
    processes = grain.MultiprocessingOptions(num_workers=WORKERS, per_worker_buffer_size=2)
    return Tensored(batches.to_iter_dataset().mp_prefetch(processes))


MAKERS: dict[str, tuple[Callable[[Workload], Iterable[Any]], str]] = {
    "torch": (torchs, "torch"),
    "torch, no workers": (partial(torchs, workers=0), "torch"),
    "lampwork": (ours, "lampwork"),
    "lampwork, no workers": (partial(ours, workers=0), "lampwork"),
    "torchdata StatefulDataLoader": (stateful, "torchdata"),
    "torchdata nodes, processes": (partial(nodes, method="process"), "torchdata"),
    "torchdata nodes, threads": (partial(nodes, method="thread"), "torchdata"),
    "SPDL PyTorchDataLoader": (spdl_processes, "spdl"),
    "SPDL DataLoader, threads": (spdl_threads, "spdl"),
    "grain mp_prefetch": (grains, "grain"),
}


class Peer:
    """One loader with one workload."""

    def __init__(self, peer: str, work: str, batches: int) -> None:
        make, package = MAKERS[peer]
        self.version = importlib.metadata.version(package)
        self.batches = batches
        self.loader = make(workload(work, batches))
        self.few = make(workload(work, 5))

    def told_version(self) -> str:
        return self.version

    def digest(self) -> str:
        """Of all batches of a short epoch."""
        return digest(self.few)

    def seconds(self) -> float:
        """Of an epoch, once all workers have shown that they have started, to its last batch."""
        batches = iter(self.loader)
        for _ in range(STARTED):
            next(batches)
        began = time.perf_counter()
        for _ in range(self.batches - STARTED):
            next(batches)
        took = time.perf_counter() - began
        for _ in batches:
            raise ValueError("it has more batches than torch")
        return took


@dataclass
class Findings:
    ratios: dict[str, Ratio]
    skipped: dict[str, str]
    versions: dict[str, str]


def measure(work: str, batches: int, rounds: int, found: Findings) -> None:
    running: dict[str, Contender] = {}

    def drop(peer: str, reason: object) -> None:
        found.skipped[f"{work}: {peer}"] = str(reason)
        print(f"{work}: {peer} skipped: {reason}", flush=True)
        if peer in running:
            running.pop(peer).close()

    expected = None
    for peer in MAKERS:
        try:
            running[peer] = Contender(Peer, peer, work, batches, patience_s=120)
            found.versions[peer] = running[peer].ask("told_version")
            bits = running[peer].ask("digest")
            expected = expected or bits  # torch's, which is the first
            if bits != expected:
                raise GaveUp("its batches differ from torch's")
            running[peer].ask("seconds")
        except GaveUp as reason:
            drop(peer, reason)
    seconds: Seconds = {peer: [] for peer in running}
    for turn in range(rounds):
        for peer in in_order(list(running), turn):
            try:
                seconds[peer].append(running[peer].ask("seconds"))
            except GaveUp as reason:
                drop(peer, reason)
    for peer in running:
        if peer != "torch":
            label = f"{work}: torch's time / {peer}"
            found.ratios[label] = ratio(seconds["torch"], seconds[peer])
            print(f"{label}: {found.ratios[label]}", flush=True)
    for contender in running.values():
        contender.close()


def main() -> None:
    quick = options(__doc__).quick
    torch.set_num_threads(1)
    found = Findings({}, {}, {})
    for work, batches in BATCHES.items():
        measure(
            work,
            max(3 * STARTED, batches // 20) if quick else batches,
            2 if quick else ROUNDS,
            found,
        )
    if not quick:
        facts = {"skipped": found.skipped, "versions": found.versions}
        write("loader_peers", __doc__, found.ratios, facts=facts)


if __name__ == "__main__":
    main()
