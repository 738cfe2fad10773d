"""Question: how large is the record of a million steps of 500 tensors, and what does it cost?

The rows are those of normal and rectified values of many scales, made beforehand and drawn at
random, so that no two merged rows are alike. The writer is driven as fast as it takes them;
`busy` is what its thread needs of a core for each recorded step. One more figure is of a training
thread that computes in plain Python beside the writer at 20 recorded steps a second: how much
longer it takes (`stolen`), which includes whatever the two wait for each other's interpreter lock.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from ratios import Ratio, write
from turns import in_order

from lampwork._core.summary import BINS, COLUMN, EXPONENT_MIN, FIRST_BIN, WIDTH
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor
from lampwork.record.writer import Writer

TENSORS = 500
PREPARED = 64
BOUND_BYTES = 64_000_000


def prepared(count: int = PREPARED, tensors: int = TENSORS) -> np.ndarray:
    """Rows as real tensors give them, shape (count, tensors, WIDTH)."""
    rng = np.random.default_rng(0)
    rows = np.zeros((count, tensors, WIDTH))
    sizes = 2 ** rng.integers(6, 21, tensors)
    for step in range(count):
        for tensor in range(tensors):
            values = rng.normal(size=1024).astype(np.float32) * np.float32(2.0 ** -(tensor % 9))
            if tensor % 3 == 0:
                values = np.maximum(values, 0)
            times = sizes[tensor] / len(values)
            exponents = np.frexp(values[values != 0])[1] - 1 - EXPONENT_MIN
            row = rows[step, tensor]
            row[COLUMN["count"]] = sizes[tensor]
            row[COLUMN["sum"]] = values.sum(dtype=np.float64) * times
            row[COLUMN["sumsq"]] = np.square(values, dtype=np.float64).sum() * times
            row[COLUMN["zeros"]] = int((values == 0).sum() * times)
            row[COLUMN["min"]], row[COLUMN["max"]] = values.min(), values.max()
            row[COLUMN["units"]] = 64
            bins = np.bincount(np.clip(exponents, 0, BINS - 1), minlength=BINS)
            row[FIRST_BIN : FIRST_BIN + len(bins)] = np.floor(bins * times)
    return rows


def announce(writer: Writer, tensors: int = TENSORS) -> None:
    for i in range(tensors):
        kind = ("output", "grad_output", "weight", "grad", "update")[i * 5 // tensors]
        writer.tensor(Tensor(i, f"layers.{i}.linear", kind, 1, 0, (64, 64), "float32", {}))


def written(folder: Path, steps: int, rows: np.ndarray) -> dict[str, float]:
    """Drive a writer through so many steps; what it took."""
    ids = np.arange(rows.shape[1])
    began, cpu = time.perf_counter(), time.process_time()
    writer = Writer(folder / "rank0.sqlite", {"model": "synthetic"})
    announce(writer)
    drawn = np.random.default_rng(1).integers(0, len(rows), steps).tolist()
    largest = 0
    for step in range(steps):
        writer.step(step, step / 100, (ids, rows[drawn[step]]), {"training": True, "lr": [0.1]})
        writer.scalar(step, "loss", 1 / (1 + step))
        if step % 20_000 == 0:
            largest = max(largest, sum(f.stat().st_size for f in folder.iterdir()))
            rate = (step + 1) / (time.perf_counter() - began)
            print(f"{step} steps, {rate:.0f} a second, {largest / 1e6:.1f} MB", flush=True)
    error = writer.close()
    assert error is None, error
    took, busy = time.perf_counter() - began, time.process_time() - cpu
    size = (folder / "rank0.sqlite").stat().st_size
    with closing(sqlite3.connect(folder / "rank0.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    began = time.perf_counter()
    record = Record(folder)
    assert record.last_steps[-1] == steps - 1
    assert "dropped" not in record.meta, record.meta["dropped"]
    return {
        "bytes": size,
        "largest_bytes": max(largest, size),
        "steps_per_s": steps / took,
        "busy_us_per_step": busy / steps * 1e6,
        "buckets": len(record.steps),
        "open_s": time.perf_counter() - began,
    }


def computing_s(work: int) -> float:
    """Seconds that a fixed piece of plain Python takes."""
    began = time.perf_counter()
    total = 0
    for i in range(work):
        total += i * i
    return time.perf_counter() - began


def stolen(rows: np.ndarray, pairs: int, recorded: int) -> Ratio:
    """The same computation with a writer at 20 recorded steps a second, and without."""
    ids, work, ratios = np.arange(rows.shape[1]), 500_000, []
    for turn in range(pairs):
        seconds = {}
        for name in in_order(("bare", "recorded"), turn):
            with tempfile.TemporaryDirectory() as folder:
                writer = Writer(Path(folder) / "rank0.sqlite", {})
                announce(writer)
                writer.flush()
                seconds[name] = 0.0
                for step in range(recorded):
                    began = time.perf_counter()
                    if name == "recorded":
                        writer.step(step, 0.0, (ids, rows[step % len(rows)]), {"training": True})
                    seconds[name] += time.perf_counter() - began + computing_s(work)
                writer.close()
        ratios.append(seconds["recorded"] / seconds["bare"])
    return Ratio.of(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 steps, to see that it runs")
    parser.add_argument("--steps", type=int, default=1_000_000)
    chosen = parser.parse_args()
    rows = prepared()
    with tempfile.TemporaryDirectory(prefix="record-size-") as folder:
        found = written(Path(folder), 20_000 if chosen.quick else chosen.steps, rows)
    print({key: round(value, 3) for key, value in found.items()})
    share = stolen(rows, 3 if chosen.quick else 7, 20 if chosen.quick else 60)
    print("computing beside the writer / without:", share)
    assert found["largest_bytes"] < BOUND_BYTES
    if not chosen.quick:
        write(
            "record_size",
            __doc__,
            {"plain Python beside the writer, 20 recorded steps a second / alone": share},
            facts={
                "size of a million steps of 500 tensors, MB": round(found["bytes"] / 1e6, 1),
                "largest while it was written, with WAL, MB": round(
                    found["largest_bytes"] / 1e6, 1
                ),
                "steps a second, as fast as the writer takes them": round(found["steps_per_s"]),
                "processor time of a recorded step, ms": round(found["busy_us_per_step"] / 1e3, 3),
                "rows kept of each tensor": found["buckets"],
                "seconds to open it": round(found["open_s"], 3),
            },
        )


if __name__ == "__main__":
    main()
