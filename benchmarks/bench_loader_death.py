"""Question: what does a `kill -9` do? Of a worker, until the error; of the trainer, to its workers.

A worker: two of them are in a sample that takes 3 s, the loop waits for the first batch, one worker
is killed; timed is how long it takes until the loop has an exception. The trainer: its two workers
are either idle, with all batches loaded ahead that they may, or in a sample that takes 30 s.
Counted are the processes that it has started and that are left 1 s and 10 s after it was killed.

Goal: the error within 0.2 s, with the sample that the worker was on; no process left after 1 s. A
worker's end wakes the loop as a batch would, and the kernel ends the workers with the trainer.

    python benchmarks/bench_loader_death.py [--quick]
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from ratios import write
from torch.utils.data import Dataset
from turns import ROUNDS, Seconds, in_order, options, ratio

import lampwork as lw

LOADERS = {"torch": torch.utils.data.DataLoader, "ours": lw.DataLoader}
LONG_S, VERY_LONG_S = 3.0, 30.0
COUNTED_AFTER_S = (1, 10)


class Slow(Dataset):
    """Samples of so many seconds; a file named for the worker's pid tells that it is in one."""

    def __init__(self, folder: str, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> int:
        Path(self.folder, str(os.getpid())).touch()
        time.sleep(self.seconds)
        return index


def wait_for(workers: int, folder: str) -> list[int]:
    """Pids of the workers, once so many are in a sample."""
    give_up = time.monotonic() + 60
    while len(found := os.listdir(folder)) < workers:
        if time.monotonic() > give_up:
            raise TimeoutError(f"only {len(found)} of {workers} workers began a sample")
        time.sleep(0.01)
    return [int(pid) for pid in found]


def error_after_kill(name: str) -> tuple[float, str]:
    """Seconds from killing a worker to the exception, and its text."""
    killed_s: list[float] = []

    def kill(folder: str) -> None:
        pid, *_ = wait_for(2, folder)
        time.sleep(0.2)  # by now the loop waits
        killed_s.append(time.perf_counter())
        os.kill(pid, signal.SIGKILL)

    with tempfile.TemporaryDirectory() as folder:
        loader = LOADERS[name](Slow(folder, LONG_S), 4, num_workers=2)
        killer = threading.Thread(target=kill, args=(folder,))  # ends with the kill or a time-out
        killer.start()
        try:
            next(iter(loader))
        except RuntimeError as error:
            took = time.perf_counter() - killed_s[0]
            text = re.sub(r"\d{3,}", "N", " ".join(str(error).split()))
        else:
            raise AssertionError("a batch came: the worker was not killed in time")
        finally:
            killer.join()
    return took, text


def started_by(pid: int) -> dict[int, str]:
    """All processes that descend from one, with their start times, which tell a pid used again."""
    found: dict[int, str] = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= {int(child): start_of(int(child)) or ""} | started_by(int(child))
    return found


def start_of(pid: int) -> str | None:
    """When a process started; None if it has ended, whether or not somebody has asked after it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def left_after_kill(name: str, seconds: float) -> list[int]:
    """How many processes a trainer had started, and how many are left so long after its end."""
    left: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--trainer", name, str(seconds), folder]
        with subprocess.Popen(command) as trainer:
            wait_for(2, folder)
            time.sleep(1)  # the idle ones have loaded ahead what they may
            processes = started_by(trainer.pid)
            trainer.kill()
            killed_s = time.monotonic()
        found = [len(processes)]
        for after_s in COUNTED_AFTER_S:
            time.sleep(max(0.0, killed_s + after_s - time.monotonic()))
            left = [pid for pid, start in processes.items() if start_of(pid) == start]
            found.append(len(left))
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return found


def trainer(name: str, seconds: float, folder: str) -> None:
    """What is killed in `left_after_kill`: a training loop that takes its time for a step."""
    batches = iter(LOADERS[name](Slow(folder, seconds), 1, num_workers=2))
    next(batches)
    time.sleep(600)


def main() -> None:
    quick = options(__doc__).quick
    torch.set_num_threads(1)
    seconds: Seconds = {name: [] for name in LOADERS}
    facts: dict[str, Any] = {}
    for turn in range(2 if quick else ROUNDS):
        for name in in_order(LOADERS, turn):
            took, text = error_after_kill(name)
            seconds[name].append(took)
            facts[f"the error, {name}"] = text
    label = "kill -9 of a worker, until the error: torch's time / ours"
    found = {label: ratio(seconds["torch"], seconds["ours"])}
    print(f"{label}: {found[label]}")
    goals = {label: ""}
    for name in LOADERS:
        until = f"kill -9 of a worker, seconds until the error, {name}"
        facts[until] = round(statistics.median(seconds[name]), 4)
        goals[until] = "≤ 0.2" if name == "ours" else ""
    for doing, took in (("idle", 0.0), ("in a sample of 30 s", VERY_LONG_S)):
        for name in LOADERS:
            counts = [left_after_kill(name, took) for _ in range(1 if quick else 3)]
            started, *left = (sum(column) for column in zip(*counts, strict=True))
            for after_s, count in zip(COUNTED_AFTER_S, left, strict=True):
                what = f"kill -9 of a trainer, workers {doing}, left after {after_s} s, {name}"
                facts[what] = f"{count} of {started}"
                goals[what] = "0" if name == "ours" else ""
    for what, value in facts.items():
        print(f"{what}: {value}")
    if not quick:
        write("loader_death", __doc__, found, goals=goals, facts=facts)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trainer"]:
        trainer(sys.argv[2], float(sys.argv[3]), sys.argv[4])
    else:
        main()
