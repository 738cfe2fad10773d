"""Question: what is lost of a record whose writer is killed at a random moment?

Twenty times a process that records 100 tensors every 5 ms and logs a number with each is killed
with SIGKILL, at a moment between its first step and two seconds later, in the middle of merging:
the room for its chunks is a fraction of the usual one. Each time SQLite's own check must find the
file whole, the steps without a gap, and every step that was told more than a second before the
kill there.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from ratios import write
from turns import options

from lampwork.record.reader import Record

KILLS = 20
ALLOWED_S = 1.0

CHILD = """
import os, sys, time
from pathlib import Path
import numpy as np
from lampwork._core.summary import WIDTH
from lampwork.record import shelf
from lampwork.record.writer import Writer

shelf.ROWS_BYTES = 400_000
folder = Path(sys.argv[1])
writer = Writer(folder / "rank0.sqlite", {"model": "killed"})
told = os.open(folder / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
rows = np.random.default_rng(0).integers(0, 1000, (16, 100, WIDTH)).astype(float)
ids = np.arange(100)
step = 0
while True:
    writer.step(step, 0.0, (ids, rows[step % 16]), {"training": True})
    writer.scalar(step, "loss", float(step))
    os.write(told, f"{step} {time.monotonic()}\\n".encode())
    step += 1
    time.sleep(0.005)
"""


def killed(folder: Path, after_s: float) -> tuple[float, int]:
    """Kill a writer; seconds between the last step on disk and the kill, and steps on disk."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)])
    deadline = time.monotonic() + 60
    while not (folder / "told").exists():
        assert child.poll() is None, "the writer ended by itself"
        assert time.monotonic() < deadline, "no step within a minute"
        time.sleep(0.01)
    time.sleep(after_s)
    at = time.monotonic()
    child.kill()
    child.wait(timeout=30)
    lines = [line.split() for line in (folder / "told").read_text().splitlines() if " " in line]
    told = {int(step): float(moment) for step, moment in lines}
    with closing(sqlite3.connect(folder / "rank0.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    record = Record(folder)
    steps = int(record.last_steps[-1]) + 1 if len(record.steps) else 0
    assert steps == 0 or record.steps[0] == 0
    assert (record.steps[1:] == record.last_steps[:-1] + 1).all()
    lost = [moment for step, moment in told.items() if step >= steps]
    return (at - min(lost) if lost else 0.0), steps


def main() -> None:
    quick = options(__doc__).quick
    lost = []
    for i in range(3 if quick else KILLS):
        with tempfile.TemporaryDirectory() as folder:
            seconds, steps = killed(Path(folder), random.uniform(0.0, 2.0))
            lost.append(seconds)
            print(f"kill {i + 1}: {steps} steps on disk, the last {seconds:.2f} s lost")
    worst = max(lost)
    print(f"lost at most {worst:.2f} s, in the median {statistics.median(lost):.2f} s")
    assert worst <= ALLOWED_S
    if not quick:
        write(
            "record_kill",
            __doc__,
            {},
            facts={
                "kills": len(lost),
                "records whole": len(lost),
                "seconds lost, worst": round(worst, 2),
                "seconds lost, median": round(statistics.median(lost), 2),
            },
        )


if __name__ == "__main__":
    main()
