"""The worker processes of one loader, as the trainer sees them.

A crew outlives the epochs it loads. It holds a constant number of file descriptors: for each worker
a pipe to it, its memory and what tells that it died, and for all of them one pipe back.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
from collections.abc import Callable, Sequence
from typing import Any

import torch.utils.data._utils

from lampwork._core import clock
from lampwork._core.clock import Deadline
from lampwork.data.arena import memory
from lampwork.data.arena.leases import Leases
from lampwork.data.arena.notices import IDLE, Notices
from lampwork.data.workers import channel, tether
from lampwork.data.workers.channel import Answer, Kind, Sender
from lampwork.data.workers.contract import Epoch, Task
from lampwork.data.workers.postmortem import Postmortem
from lampwork.data.workers.shipment import Shipment
from lampwork.data.workers.worker import KEPT_S, Desk

LEAVE_S = 5.0
"""How long workers may take to end by themselves; torch gives each as much."""

Start = Callable[[Desk, Shipment], Any]
"""Starts the process of one worker and returns it: a `multiprocessing.Process`."""


class Crew:
    """Starts workers, gives them tasks, collects what they made.

    Args:
        start: starts one worker.
        workers: how many.
        budget: bytes of batches that may stay in the workers' memory at a time.
        shipment: what the workers may be sent; the crew closes it.
        by_kernel: whether the workers will be children of this process, see `tether`.

    Attributes:
        processes: the workers' processes, by number.
    """

    def __init__(
        self, start: Start, workers: int, budget: int, shipment: Shipment, *, by_kernel: bool
    ) -> None:
        self.shipment = shipment
        self._by_kernel = by_kernel and tether.started_by_main_thread()
        self.processes: list[Any] = []
        self._senders: list[Sender] = []
        self._boards: list[Notices] = []
        self._leases: list[Leases] = []
        self._memories: list[int] = []
        self._closed = False
        self._dismissed: set[int] = set()
        self._rests_since_s = clock.monotonic_s()
        self._next = 0
        self._owner = os.getpid()
        self._poll = select.poll()
        self._answers, answers = channel.pipe_to_trainer()
        self._poll.register(self._answers, select.POLLIN)
        try:
            for number in range(workers):
                self._hire(start, number, answers, budget // workers)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(answers)
        self._postmortem = Postmortem()

    def _hire(self, start: Start, number: int, answers: int, budget: int) -> None:
        tasks, sender = channel.pipe_from_trainer()
        try:
            fd = memory.create(f"lampwork-{number}")
            self._memories.append(fd)
            shared = memory.mapped(fd)
            board = Notices(shared)
            board.working(IDLE, 0)
            desk = Desk(number, tasks, answers, fd, os.getpid(), self._by_kernel, gc.isenabled())
            process = start(desk, self.shipment)
        except BaseException:
            channel.close(sender)
            raise
        finally:
            os.close(tasks)
        self.processes.append(process)
        self._poll.register(process.sentinel, select.POLLIN)
        self._senders.append(Sender(sender))
        self._boards.append(board)
        self._leases.append(Leases(shared, board, budget))

    @property
    def alive(self) -> bool:
        """Whether all workers are there."""
        return not self._closed and all(process.is_alive() for process in self.processes)

    @property
    def held(self) -> int:
        """How many batches in the workers' memory the trainer holds."""
        return sum(leases.held for leases in self._leases)

    def begin(self, epoch: Epoch) -> int:
        """Tell all workers of a new epoch; nobody waits for what is under way from the last one.

        They hear of it with their first tasks, at `uncork`. Returns the number of its first task.
        """
        body = pickle.dumps(epoch, pickle.HIGHEST_PROTOCOL)
        for board, sender in zip(self._boards, self._senders, strict=True):
            if epoch.fresh:  # else it is finished, as by torch: copies and generators go on from it
                board.void(before=self._next)
            sender.corked = True
            sender.send(Kind.BEGIN, body)
        return self._next

    def uncork(self) -> None:
        """Send what the workers are to do first."""
        for sender in self._senders:
            sender.corked = False
            sender.flush()

    def submit(self, worker: int, task: Task) -> int:
        """Give a task to a worker; the number by which it will be answered."""
        number, self._next = self._next, self._next + 1
        self._senders[worker].task(number, task)
        return number

    def collect(self, timeout_s: float, tasks: Callable[[int], Task | None]) -> list[Answer]:
        """The answers that are there, or that come first within the time; empty if none does.

        Args:
            timeout_s: how long to wait; 0 only looks.
            tasks: the task of a number, to tell what a worker was doing when it died.

        Raises:
            RuntimeError: a worker died.
        """
        deadline = Deadline(timeout_s)
        while True:
            behind = [sender for sender in self._senders if sender.behind]
            for sender in behind:
                self._poll.register(sender.fd, select.POLLOUT)
            ready = {fd for fd, _ in self._poll.poll(deadline.left_s() * 1000)}
            for sender in behind:
                self._poll.unregister(sender.fd)
                sender.flush()
            if self._answers in ready and (arrived := list(channel.answers(self._answers))):
                return arrived
            if ready - {sender.fd for sender in behind}:
                self._report_death(tasks)
            if deadline.passed():
                return []

    def open(self, answer: Answer) -> Any:
        """What a worker made."""
        return self._leases[answer.worker].open(answer.slot, answer[4:6], answer[6:9])

    def drop(self, answer: Answer) -> None:
        """Nobody wants what the worker made."""
        if answer.slot >= 0:
            self._leases[answer.worker].drop(answer.slot)

    def doing(self, worker: int) -> tuple[int, int, int]:
        """Task number or `IDLE`, place in the batch and since when, see `Notices.place`."""
        return self._boards[worker].place

    def _report_death(self, tasks: Callable[[int], Task | None]) -> None:
        for number, process in enumerate(self.processes):
            if number not in self._dismissed and not process.is_alive():
                task, place, _ = self.doing(number)
                raise self._postmortem.report(process, number, tasks(task), place)

    def rest(self) -> None:
        """Let the workers wait for another epoch, as long as `KEPT_S`."""
        self._rests_since_s = clock.monotonic_s()
        for sender in self._senders:
            sender.send(Kind.REST, b"")

    def wake(self, seed: int) -> None:
        """Tell resting workers that an epoch of this seed begins soon, or else that they go."""
        for sender in self._senders:
            sender.send(Kind.SOON, pickle.dumps(seed))

    @property
    def is_rested_out(self) -> bool:
        """Whether the workers have ended by themselves, or are about to."""
        return clock.monotonic_s() - self._rests_since_s > KEPT_S - LEAVE_S

    def dismiss(self, worker: int) -> None:
        """Let one worker go: an `IterableDataset` has nothing more for it."""
        if worker not in self._dismissed:
            self._dismissed.add(worker)
            self._poll.unregister(self.processes[worker].sentinel)
            self._senders[worker].send(Kind.END, b"")

    def close(self) -> None:
        """End all workers: by themselves within `LEAVE_S`, or else by force. Batches stay."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        for board, sender in zip(self._boards, self._senders, strict=True):
            board.stop()
            sender.send(Kind.END, b"")
        try:
            end(self.processes)
        finally:
            channel.close(self._answers)
            for sender in self._senders:
                channel.close(sender.fd)
            for fd in (*self._memories, self.shipment.fd):
                os.close(fd)

    def __del__(self) -> None:
        if python_is_up():
            self.close()


def python_is_up() -> bool:
    """Whether the interpreter is not on its way down; then multiprocessing ends the workers."""
    exiting = torch.utils.data._utils.python_exit_status if torch is not None else True
    return exiting is False


def end(processes: Sequence[Any]) -> None:
    """Wait for processes that were told to end; those that do not are terminated, then killed."""
    deadline = Deadline(LEAVE_S)
    for process in processes:
        process.join(deadline.left_s())
    for force in ("terminate", "kill"):
        left = [process for process in processes if process.is_alive()]
        for process in left:
            getattr(process, force)()
        for process in left:
            process.join(1.0)
