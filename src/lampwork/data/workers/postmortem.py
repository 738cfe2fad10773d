"""What to tell about a worker that died: who, of what, and over which sample.

The first words are torch's, since programs look for them.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from lampwork.data.workers.contract import Task

_COUNTERS = (
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),
    Path("/proc/vmstat"),
)


class Postmortem:
    """Tells what workers died of; made while all of them live, to see what has changed since."""

    def __init__(self) -> None:
        self._killed_for_memory = _oom_kills()

    def report(self, process: Any, number: int, task: Task | None, place: int) -> RuntimeError:
        """The error to raise for a dead worker.

        Args:
            process: the worker's process.
            number: its number.
            task: what it was loading, None if it waited for a task.
            place: at which sample of it.
        """
        process.join(0)
        code = process.exitcode
        told = [_cause(process.pid, code), _doing(number, task, place)]
        if code == -signal.SIGKILL and (cure := self._memory()):
            told.append(cure)
        elif code is not None and code >= 0:
            told.append("Look for a call of sys.exit or os._exit in the dataset.")
        return RuntimeError(" ".join(told))

    def _memory(self) -> str:
        if _oom_kills() > self._killed_for_memory:
            return (
                "The kernel ran out of memory and killed it: lower num_workers, prefetch_factor "
                "or batch_size, or let the dataset hold less."
            )
        return "The kernel's counter of processes killed for want of memory did not move."


def _cause(pid: int, code: int | None) -> str:
    if code is not None and code < 0:
        return f"DataLoader worker (pid {pid}) is killed by signal: {_described(-code)}."
    return f"DataLoader worker (pid(s) {pid}) exited unexpectedly with exit code {code}."


def _described(number: int) -> str:
    described = signal.strsignal(number) or f"signal {number}"
    return (
        f"{described} ({signal.Signals(number).name})"
        if number in set(signal.Signals)
        else described
    )


def _doing(number: int, task: Task | None, place: int) -> str:
    if task is None:
        return f"Worker {number} was waiting for a task."
    try:
        sample = task.index[place] if isinstance(task.index, list) else task.index
    except IndexError:
        sample = task.index
    return f"Worker {number} was loading sample {sample}, at place {place} of its batch."


def _oom_kills() -> int:
    """How often the kernel has killed for want of memory, as far as this process can see."""
    for file in _COUNTERS:
        try:
            lines = dict(line.split()[:2] for line in file.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if "oom_kill" in lines:
            return int(lines["oom_kill"])
    return 0
