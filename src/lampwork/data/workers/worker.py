"""A worker process: takes tasks, fills slots, answers.

It ends when it is told to, when the trainer's end of the pipe closes, or with the trainer: at the
trainer's death the kernel kills it, or a thread that waits for that death does (`tether`).
"""

from __future__ import annotations

import contextlib
import gc
import pickle
import random
import select
from dataclasses import dataclass
from multiprocessing import reduction
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
import torch.multiprocessing
from torch._utils import ExceptionWrapper
from torch.utils.data import _DatasetKind
from torch.utils.data._utils import signal_handling
from torch.utils.data._utils import worker as torchs

from lampwork._core.clock import Deadline
from lampwork.data.arena.memory import mapped
from lampwork.data.arena.notices import IDLE, PLACE, STOP, VOID, Notices
from lampwork.data.arena.packing import Packed, pack
from lampwork.data.arena.slots import Slots
from lampwork.data.arena.stacking import Stacking
from lampwork.data.fetch import Fetcher, Interrupted, gather_for
from lampwork.data.gather import Gather
from lampwork.data.workers.channel import (
    Answer,
    Content,
    Kind,
    Receiver,
    answer,
    close_trainers_ends,
    task_of,
)
from lampwork.data.workers.contract import Epoch, Fetched, Job, Task
from lampwork.data.workers.shipment import Shipment
from lampwork.data.workers.tether import die_with

LOOK_UP_MS = 5_000
"""A worker without a task looks whether it is to stop once in a while: a message says so too."""
KEPT_S = 60.0
"""How long a worker that is not persistent waits for another epoch."""


@dataclass(frozen=True)
class Desk:
    """Where a worker works: its number and its ends of what leads to the trainer."""

    number: int
    tasks: int
    answers: int
    memory: int
    trainer: int
    """Process id."""
    killed_by_kernel: bool
    """Whether the kernel can be asked to end the worker with the trainer, see `tether`."""
    collects: bool
    """Whether cyclic garbage is collected, as in the trainer."""

    def __getstate__(self) -> dict[str, Any]:
        # Pickled only while a process is started, which then gets the descriptors as well.
        told = vars(self).copy()
        return told | {name: reduction.DupFd(told[name]) for name in _DESCRIPTORS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, **{name: state[name].detach() for name in _DESCRIPTORS})


_DESCRIPTORS = ("tasks", "answers", "memory")


def work(desk: Desk, job: Job | None, dataset: Any, shipment: Shipment) -> None:
    """Serve until told to stop; the body of a worker process.

    Args:
        desk: whereto it is connected.
        job: what to do with samples, and
        dataset: whose: of a forked worker, which inherits them. For others both are None.
        shipment: where a pair of the two lies that is told of with an epoch.
    """
    gc.freeze()  # what a forked worker inherits is not its to free, see `hiring`
    if desk.collects:
        gc.enable()
    close_trainers_ends()
    die_with(desk.trainer, by_kernel=desk.killed_by_kernel)
    signal_handling._set_worker_signal_handlers()
    torch.multiprocessing._set_thread_name("lampwork_worker")
    torch.set_num_threads(1)
    with contextlib.suppress(KeyboardInterrupt):  # the trainer is interrupted as well
        _Worker(desk, job, dataset, shipment).serve()


class _Worker:
    def __init__(self, desk: Desk, job: Job | None, dataset: Any, shipment: Shipment) -> None:
        self._desk = desk
        self._job = job
        self._dataset = dataset
        self._shipment = shipment
        memory = mapped(desk.memory)
        self._board = Notices(memory)
        self._numbers = self._board.numbers  # at hand, for what is done once per sample
        self._slots = Slots(desk.memory, memory, self._board)
        self._receiver = Receiver(desk.tasks)
        self._stacking = Stacking()
        self._stacking.install()
        self._fetcher: Fetcher | None = None
        self._unused: Any = None
        """A copy of what lies in the shipment, made while there was nothing else to do."""
        self._unable: ExceptionWrapper | None = None
        """What went wrong at the beginning of the epoch: told with each of its tasks."""
        self._seeded: int | None = None
        """The seed of the generators as long as nothing has drawn from them since."""
        self._ended = False
        self._number = 0
        """Of the task in hand."""

    def serve(self) -> None:
        poll = select.poll()
        poll.register(self._desk.tasks, select.POLLIN)
        resting: Deadline | None = None
        while not self._board.stopping:
            frame = self._receiver.next()
            if frame is None:
                self._receiver.read()
                frame = self._receiver.next()
            if frame is None:
                if self._receiver.closed:
                    return
                poll.poll(LOOK_UP_MS)
                if resting is not None and resting.passed():
                    return
                continue
            kind, body = frame
            resting = Deadline(KEPT_S) if kind == Kind.REST else None
            if kind == Kind.END:
                return
            if kind == Kind.REST:
                self._prepare()
                continue
            if kind == Kind.SOON:
                self._prepare()
                self._seed(pickle.loads(body))
                continue
            if kind == Kind.BEGIN:
                self._begin(pickle.loads(body))
            else:
                self._fulfil(*task_of(kind, body))

    def _prepare(self) -> None:
        """Change copies for the next epoch; what fails here fails again there, and is told."""
        if self._unused is None and self._shipment.filled:
            # The old one goes now: with thousands of samples that takes a while.
            self._fetcher = self._dataset = torchs._worker_info = None
            with contextlib.suppress(Exception):
                self._unused = self._shipment.unpack(self._desk.number)

    def _begin(self, epoch: Epoch) -> None:
        self._ended, self._unable, self._fetcher = False, None, None
        where = f"in DataLoader worker process {self._desk.number}"
        try:
            if epoch.shipped:
                self._take_unused()
            if epoch.fresh:
                self._start_afresh(epoch)
            assert self._job is not None
            self._fetcher = Fetcher(
                self._job,
                self._dataset,
                epoch,
                epoch.stream_states.get(self._desk.number),
                self._on_sample,
                self._gather(),
            )
        except Exception:
            self._unable = ExceptionWrapper(where=where)

    def _take_unused(self) -> None:
        """Take a new copy of the dataset, as a worker has that torch starts."""
        if self._unused is None:
            self._seeded = None  # unpacking may draw
            self._unused = self._shipment.unpack(self._desk.number)
        (job, self._dataset), self._unused = self._unused, None
        self._job = job or self._job

    def _gather(self) -> Gather | None:
        # Asked while torch's own function is in the table: it is what gathering stands for.
        assert self._job is not None
        self._stacking.remove()
        try:
            return gather_for(self._job, self._dataset)
        finally:
            self._stacking.install()

    def _start_afresh(self, epoch: Epoch) -> None:
        """Seeds, `get_worker_info()` and `worker_init_fn`, as in a worker that torch starts."""
        assert self._job is not None
        number = self._desk.number
        if self._seeded != epoch.seed:
            self._seed(epoch.seed)
        self._seeded = None
        torchs._worker_info = torchs.WorkerInfo(
            id=number,
            num_workers=self._job.workers,
            seed=epoch.seed + number,
            dataset=self._dataset,  # pyright: ignore[reportArgumentType]
        )
        if self._job.worker_init_fn is not None:
            self._job.worker_init_fn(number)

    def _seed(self, base_seed: int) -> None:
        number = self._desk.number
        seed = base_seed + number
        random.seed(seed)
        if torch.accelerator.current_accelerator() is None:  # of those that torch was built for
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)  # which notes the stack, for each accelerator
        np.random.seed(torchs._generate_state(base_seed, number))
        self._seeded = base_seed

    def _on_sample(self, place: int) -> None:
        self._numbers[PLACE] = place
        if self._numbers[STOP] or self._numbers[VOID] > self._number:
            raise Interrupted

    def _fulfil(self, number: int, task: Task) -> None:
        if self._ended or self._board.is_void(number):
            return
        self._number = number
        began_ns = perf_counter_ns()
        self._board.working(number, began_ns)
        try:
            content, value, fetched = self._outcome(task)
        except Interrupted:
            return
        if content == Content.STREAM_END:
            self._ended = True
            packed = None
        else:
            content, packed = self._packed(content, value)
        self._stacking.slot = None
        self._board.working(IDLE, perf_counter_ns())
        self._tell(number, content, packed, fetched, perf_counter_ns() - began_ns)

    def _outcome(self, task: Task) -> tuple[Content, Any, Fetched]:
        if self._unable is not None:
            return Content.ERROR, self._unable, Fetched()
        assert self._fetcher is not None
        try:
            self._stacking.slot = self._slots.take()
            fetched = self._fetcher.fetch(task)
            state = self._fetcher.state()
        except Interrupted:
            raise
        except Exception as error:
            stream = self._job is not None and self._job.dataset_kind == _DatasetKind.Iterable
            if stream and isinstance(error, StopIteration):
                return Content.STREAM_END, None, Fetched()
            where = f"in DataLoader worker process {self._desk.number}"
            return Content.ERROR, ExceptionWrapper(where=where), Fetched()
        if fetched.empty or fetched.skipped or state is not None:
            content = Content.NO_BATCH if fetched.empty else Content.WITH_NEWS
            return content, (fetched.data, fetched.skipped, state), fetched
        return Content.BATCH, fetched.data, fetched

    def _packed(self, content: Content, value: Any) -> tuple[Content, Packed]:
        slot = self._stacking.slot or self._slots.take()
        try:
            return content, pack(value, slot, self._slots)
        except Exception:
            slot.used = 0
            if content != Content.ERROR:  # a batch that cannot be sent: tell that instead
                where = f"in DataLoader worker process {self._desk.number}, sending a batch"
                return self._packed(Content.ERROR, ExceptionWrapper(where=where))
            # An exception that cannot be sent. What it said can.
            value.exc_type = RuntimeError
            return content, pack(value, slot, self._slots)

    def _tell(
        self, number: int, content: Content, packed: Packed | None, fetched: Fetched, busy_ns: int
    ) -> None:
        index, offset, size, at, pieces, pickled = -1, 0, 0, 0, 0, 0
        if packed is not None:
            slot, at, pieces, pickled = packed
            index, offset, size = slot.index, slot.offset, slot.size
            self._board.taken[index] = 1
        told = Answer(
            self._desk.number,
            number,
            content,
            index,
            offset,
            size,
            at,
            pieces,
            pickled,
            fetched.samples,
            busy_ns,
            fetched.slowest_ns,
            fetched.slowest,
        )
        answer(self._desk.answers, told)
