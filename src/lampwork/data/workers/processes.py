"""Loading in workers that hand over in shared memory: what they are given, and in which order.

Whole batches go to the workers in turn, at most `prefetch_factor` to each at a time, and come back
in the order of the sampler, all as torch does it. With `parallel="sample"` a batch is cut into
parts for whoever is idle, and put together here.
"""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import dataloader as torchs

from lampwork._core import clock
from lampwork.data.arena.notices import IDLE
from lampwork.data.device import Handover
from lampwork.data.workers import hiring
from lampwork.data.workers.channel import Answer, Content
from lampwork.data.workers.contract import Epoch, Task, cut, sample_at
from lampwork.data.workers.crew import python_is_up
from lampwork.data.workers.iteration import Iteration, asked_for

if TYPE_CHECKING:
    from lampwork.data.loader import DataLoader

SAY_SO_S = 60.0
"""After how long to say what is waited for, where the loader has no timeout."""
PARTS = 4
"""Parts per worker into which a batch is cut: enough to even out, few enough to be cheap."""
AT_HAND = 2
"""Parts that a worker has at a time, so that it need not wait for the next."""


@dataclass
class _Batch:
    """A batch under way.

    Attributes:
        task: the whole of it.
        worker: who makes it, None where several do.
        answers: by part.
        missing: parts without an answer.
    """

    task: Task
    worker: int | None
    answers: dict[int, Answer] = field(default_factory=dict)
    missing: int = 1


# Named as torch's, and of its kind: Lightning asks for that before it ends the workers.
class _MultiProcessingDataLoaderIter(Iteration, torchs._MultiProcessingDataLoaderIter):
    def __init__(self, loader: DataLoader) -> None:
        self._shutdown = True  # until there is something to shut down
        torchs._BaseDataLoaderIter.__init__(self, loader)
        self._prefetch_factor = loader.prefetch_factor or 1
        self._in_order = loader.in_order
        self._loader = weakref.ref(loader)  # which may hold this iterator
        saved = self._begin(loader, "arena", starting=True)
        self._collating = loader.parallel == "batch" or not self._auto_collation
        self._handover = Handover.to(loader.device, self._pin_memory_device)
        self._crew, shipped = hiring.hire(loader, self._dataset, self._base_seed)
        self._shutdown = False
        self._workers = self._crew.processes
        streams = saved.streams if saved else {}
        self._start(Epoch(self._base_seed, shipped=shipped, stream_states=streams))
        self._pass.waited(since_s=self._pass.began_s)

    def _reset(self, loader: DataLoader, first_iter: bool = False) -> None:
        """Begin another epoch with persistent workers."""
        torchs._BaseDataLoaderIter._reset(self, loader, first_iter)
        if loader.rng == "keyed":  # torch keeps the seed of the first epoch
            draw = torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
            self._base_seed = int(draw.item())
        saved = self._begin(loader, "arena", starting=False)
        streams = saved.streams if saved else {}
        self._start(Epoch(self._base_seed, fresh=False, stream_states=streams))
        self._pass.waited(since_s=self._pass.began_s)

    def _start(self, epoch: Epoch) -> None:
        """Give the workers their first tasks of an epoch."""
        self._send_idx = self._rcvd_idx = 0
        self._exhausted = False
        self._batches: dict[int, _Batch] = {}
        self._by_number: dict[int, tuple[int, int]] = {}
        self._complete: deque[int] = deque()
        self._waiting: deque[tuple[int, int, Task]] = deque()
        self._loads = [0] * self._num_workers
        self._workers_status = [True] * self._num_workers
        self._turns = itertools.cycle(range(self._num_workers))
        self._handover.clear()
        self._streams_now: list[tuple[int, Any]] = []
        self._streams_after: deque[list[tuple[int, Any]]] = deque()
        """The states of streams after each batch made, which may not be handed over yet."""
        for _ in range(self._position.turn if epoch.stream_states else 0):
            next(self._turns)
        self._first_number = self._crew.begin(epoch)
        try:
            for _ in range(self._prefetch_factor * self._num_workers):
                self._try_put_index()
        finally:
            self._crew.uncork()

    # Giving out

    def _try_put_index(self) -> None:
        """Give out the next batch of the order, if there is one and someone to make it."""
        if not any(self._workers_status):
            return
        try:
            task = self._next_task()
        except StopIteration:
            self._exhausted = True
            return
        worker = self._next_worker() if self._collating else None
        number = self._send_idx
        self._send_idx += 1
        if worker is not None:
            self._batches[number] = _Batch(task, worker)
            self._submit(worker, number, 0, task)
            return
        parts = self._parts_of(task)
        self._batches[number] = _Batch(task, None, missing=len(parts))
        self._waiting += [(number, place, part) for place, part in enumerate(parts)]
        self._spread()

    def _parts_of(self, task: Task) -> list[Task]:
        return cut(task, PARTS * self._num_workers)

    def _next_worker(self) -> int:
        """Whose turn it is; out of order, the next who has not its fair share already."""
        most = self._prefetch_factor * self._num_workers // sum(self._workers_status)
        turns = [next(self._turns) for _ in range(1)]
        while not self._workers_status[turns[-1]] or (
            not self._in_order and self._loads[turns[-1]] >= most and len(turns) <= len(self._loads)
        ):
            turns.append(next(self._turns))
        return turns[-1]

    def _spread(self) -> None:
        """Give waiting parts to the workers that have least to do."""
        while self._waiting:
            worker = min(range(self._num_workers), key=self._loads.__getitem__)
            if self._loads[worker] >= AT_HAND:
                return
            number, place, part = self._waiting.popleft()
            self._submit(worker, number, place, part)

    def _submit(self, worker: int, number: int, place: int, task: Task) -> None:
        self._by_number[self._crew.submit(worker, task)] = (number, place)
        self._loads[worker] += 1

    # Taking in

    def _next_batch(self) -> tuple[Any, Task, int]:
        result = self._handover.next(self._next_result)
        for worker, state in self._streams_after.popleft():
            self._position.streams[worker] = state
            self._position.turn = (worker + 1) % self._num_workers
        return result

    def _next_result(self, wait: bool) -> tuple[Any, Task, int] | None:
        """The next batch; None if it would have to be waited for and shall not be."""
        if self._shutdown:  # the workers may be loading for another iterator by now
            raise StopIteration
        self._receive(0)
        ready = True
        while True:
            number = self._next_complete()
            if number is None:
                if not wait:
                    return None
                ready = False
                self._wait()
                continue
            batch = self._batches.pop(number)
            self._try_put_index()
            samples = sum(answer.samples for answer in batch.answers.values())
            opened_s = clock.monotonic_s()
            data, empty = self._made(batch, ready)
            self._pass.opening_s += clock.monotonic_s() - opened_s
            if self._exhausted and not self._batches:
                # Not when the next batch is asked for: whoever counts batches never asks.
                self._end_of_epoch()
            if not empty:
                self._streams_after.append(self._streams_now)
                self._streams_now = []
                return data, batch.task, samples
            self._position.taken += batch.task.stride * asked_for(batch.task.index)

    def _next_complete(self) -> int | None:
        """The number of the batch to hand over; `StopIteration` when nothing more will come."""
        while self._rcvd_idx < self._send_idx:
            batch = self._batches.get(self._rcvd_idx)
            if batch is not None:
                alive = batch.worker is None or self._workers_status[batch.worker]
                if alive or not batch.missing:
                    break
                del self._batches[self._rcvd_idx]  # its worker's stream ended before
            self._rcvd_idx += 1
        else:
            self._end_of_epoch()
            raise StopIteration
        if self._in_order:
            return self._rcvd_idx if not self._batches[self._rcvd_idx].missing else None
        return self._complete.popleft() if self._complete else None

    def _wait(self) -> None:
        if self._timeout > 0:
            if not self._receive(self._timeout):
                raise RuntimeError(
                    f"DataLoader timed out after {self._timeout} seconds. {self._waited_for()}"
                )
        elif not self._receive(SAY_SO_S):
            warnings.warn(
                f"no batch for {SAY_SO_S:.0f} s. {self._waited_for()} Pass timeout= to give up "
                "after so many seconds.",
                stacklevel=6,
            )

    def _waited_for(self) -> str:
        number, place, _ = self._crew.doing(worker := self._worker_due())
        process = self._workers[worker]
        if number == IDLE or (task := self._task_of(number)) is None:
            return f"Worker {worker} (pid {process.pid}) is idle."
        return (
            f"Worker {worker} (pid {process.pid}) is on sample {sample_at(task, place)}, "
            f"at place {place} of its batch."
        )

    def _worker_due(self) -> int:
        batch = self._batches.get(self._rcvd_idx)
        if batch is not None and batch.worker is not None:
            return batch.worker
        return max(range(self._num_workers), key=self._loads.__getitem__)

    def _receive(self, timeout_s: float) -> bool:
        """Take in answers, waiting for the first so long; whether any came."""
        answers = self._crew.collect(timeout_s, self._task_of)
        for answer in answers:
            if answer.task < self._first_number:
                self._crew.drop(answer)
            else:
                self._take_in(answer)
        return bool(answers)

    def _take_in(self, answer: Answer) -> None:
        number, place = self._by_number.pop(answer.task)
        self._loads[answer.worker] -= 1
        if answer.content == Content.STREAM_END:
            self._stream_ended(answer.worker)
            return
        batch = self._batches[number]
        batch.answers[place] = answer
        batch.missing -= 1
        if not batch.missing:
            self._complete.append(number)
        self._spread()

    def _stream_ended(self, worker: int) -> None:
        """An `IterableDataset` has no more in this worker: it goes, unless it is persistent."""
        self._workers_status[worker] = False
        if not self._persistent_workers:
            self._crew.dismiss(worker)
        self._try_put_index()

    def _task_of(self, number: int) -> Task | None:
        """What a worker was given under this number."""
        found = self._by_number.get(number)
        if found is None or found[0] not in self._batches:
            return None
        task = self._batches[found[0]].task
        return task if self._collating else self._parts_of(task)[found[1]]

    # Making a batch of it

    def _made(self, batch: _Batch, ready: bool) -> tuple[Any, bool]:
        """The batch, and whether it is none since all its samples were skipped."""
        parts, empty = [], True
        error: ExceptionWrapper | None = None
        tasks = [batch.task] if self._collating else self._parts_of(batch.task)
        for place in sorted(batch.answers):
            answer = batch.answers[place]
            self._pass.loaded(
                answer.busy_ns / 1e9,
                answer.slowest_ns / 1e9,
                sample_at(tasks[place], answer.slowest),
                ready=ready and not place,
            )
            made = self._crew.open(answer)
            if answer.content == Content.ERROR:
                error = error or made
                continue
            if answer.content != Content.BATCH:
                made, skipped, state = made
                self._pass.skipped += skipped
                if state is not None:
                    self._streams_now.append((answer.worker, state))
            empty = empty and answer.content == Content.NO_BATCH
            parts.append(made)
        if error is not None:
            error.reraise()
        if self._collating or empty:
            return (parts[0] if parts else None), empty
        samples = [sample for part in parts if part is not None for sample in part]
        return self._collate_fn(samples), False

    # The end

    def _end_of_epoch(self) -> None:
        if not self._persistent_workers and not self._shutdown:
            self._shutdown = True
            hiring.release(self._loader(), self._crew)

    def _shutdown_workers(self) -> None:
        """End the workers; torch's name for it, which trainers call."""
        if not self._shutdown and python_is_up():
            self._shutdown = True
            hiring.dismiss(self._loader(), self._crew)

    def __del__(self) -> None:
        self._shutdown_workers()
