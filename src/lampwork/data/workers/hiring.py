"""Starting workers, and keeping them for the next epoch where that cannot be noticed.

Without `persistent_workers` torch starts new workers for each epoch. Here they stay and are given
an unused copy of the dataset, new seeds and a call of `worker_init_fn`, so that they do what new
ones would; but only while the dataset and what goes with it are unchanged (`fingerprint`).
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch.multiprocessing
from torch.utils.data import dataloader as torchs

from lampwork.data.workers import template
from lampwork.data.workers.crew import Crew
from lampwork.data.workers.fingerprint import fingerprint
from lampwork.data.workers.iteration import job_of
from lampwork.data.workers.shipment import Shipment, TooManyDescriptors
from lampwork.data.workers.worker import Desk, work

if TYPE_CHECKING:
    from lampwork.data.loader import DataLoader


class Kept:
    """Workers between two epochs, and what they were hired for.

    An unused copy of the dataset can be had from the shipment of the crew.

    Attributes:
        crew: the workers.
        terms: the settings that they were started with.
        looks: of what they load, see `fingerprint`.
    """

    def __init__(self, crew: Crew, terms: tuple[Any, ...], looks: tuple[bytes, bytes]) -> None:
        self.crew = crew
        self.terms = terms
        self.looks = looks


def hire(loader: DataLoader, dataset: Any, seed: int) -> tuple[Crew, bool]:
    """Workers for an epoch, and whether they find the dataset in the shipment.

    Args:
        loader: for which.
        dataset: what they load.
        seed: of the epoch: workers that are kept wake up to it while the dataset is looked at.

    Raises:
        Exception: whatever starting a process raises, and pickling for those that are not forked.
    """
    kept, loader._own.kept = loader._own.kept, None
    if kept is not None and not _same_terms(kept, loader):
        kept.crew.close()
        kept = None
    if kept is not None:
        kept.crew.wake(seed)
    looks = _fingerprint(loader, dataset)
    if kept is not None:
        if looks == kept.looks and kept.crew.alive:
            loader._own.hired = kept
            return kept.crew, True
        kept.crew.close()
    crew, shipped = _new(loader, dataset)
    loader._own.hired = None
    if looks is not None:
        if not shipped:  # forked workers use up the copy that they inherit
            crew.shipment.put(looks[1])
        loader._own.hired = Kept(crew, _terms(loader), looks)
    return crew, shipped


def release(loader: DataLoader | None, crew: Crew) -> None:
    """An epoch is over: its workers wait for the next, or go; with the loader, if that is gone."""
    if loader is None:
        crew.close()
        return
    hired, loader._own.hired = loader._own.hired, None
    if hired is not None and hired.crew is crew and loader._own.kept is None:
        loader._own.kept = hired
        crew.rest()
    else:
        crew.close()


def dismiss(loader: DataLoader | None, crew: Crew) -> None:
    """An epoch was broken off: its workers go, and the loader no longer holds their memory."""
    if loader is not None and loader._own.hired is not None and loader._own.hired.crew is crew:
        loader._own.hired = None
    crew.close()


def _fingerprint(loader: DataLoader, dataset: Any) -> tuple[bytes, bytes] | None:
    """Only where workers might be kept; of a stream they end with it, as torch's do."""
    if loader.persistent_workers or loader._dataset_kind == torchs._DatasetKind.Iterable:
        return None
    return fingerprint(dataset, (loader.collate_fn, loader.worker_init_fn))


def _terms(loader: DataLoader) -> tuple[Any, ...]:
    # The functions themselves: a new one may be meant to do something else.
    settings = (job_of(loader), loader.multiprocessing_context, loader._budget())
    here = os.stat(".")  # the working directory, even one that was removed
    surroundings = (os.getpid(), dict(os.environ), here.st_dev, here.st_ino)
    return (*settings, *surroundings, torch.get_default_dtype())


def _same_terms(kept: Kept, loader: DataLoader) -> bool:
    # They tell a forked process as well that these are not its workers to look after.
    return kept.terms == _terms(loader) and not kept.crew.is_rested_out


@contextlib.contextmanager
def _collecting_nothing() -> Iterator[None]:
    """No cyclic garbage is collected from before a fork until the worker has set it aside.

    Garbage of the trainer may hold tensors on a CUDA device, and freeing one in a forked process
    aborts it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _new(loader: DataLoader, dataset: Any) -> tuple[Crew, bool]:
    own = loader.multiprocessing_context or torch.multiprocessing
    forked = own.get_start_method() == "fork"
    process_of = template.process_of(own)
    job = job_of(loader)
    shipment = Shipment()
    given: tuple[Any, Any] = (job, dataset)
    if not forked:
        template.prepare(process_of)  # it starts while the dataset is pickled
        try:
            shipment.pack(given)
            given = (None, None)
        except TooManyDescriptors:
            process_of = own.Process  # type: ignore[union-attr]  # each worker gets a pickle of its own
        except BaseException:
            os.close(shipment.fd)
            raise

    def start(desk: Desk, shipment: Shipment) -> Any:
        process = process_of(target=work, args=(desk, *given, shipment), daemon=True)
        with _collecting_nothing():
            process.start()
        return process

    crew = Crew(start, loader.num_workers, loader._budget(), shipment, by_kernel=forked)
    return crew, given[0] is None
