"""Question: how soon does a page see a run of 2,000 tensors and 100,000 recorded steps?

The record is the one that the writer would leave: its own rules merge chunks until they fit, which
is played through with chunks of one bucket's worth of random rows instead of a hundred thousand
steps. `first picture` is what a page needs to open: the index, the list of tensors, the logged
numbers and a depth-by-step map of one statistic over all tensors. `zoom` are one tensor's curve and
its histograms over a part of the run, each from a file that was not read before by this process.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from bench_record_size import prepared
from ratios import write
from turns import options

from lampwork.record import shelf
from lampwork.record.levels import MOST_BUCKETS, chunk_length, next_pair
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor
from lampwork.record.slab import Slab
from lampwork.record.timeline import Timeline
from lampwork.record.writer import Writer

TENSORS, STEPS = 2000, 100_000
BYTES_A_ROW = 40


def levels_of(steps: int, tensors: int) -> list[int]:
    """The levels of the chunks that so many steps leave."""
    length = chunk_length(tensors)
    most = min(shelf.ROWS_BYTES // (BYTES_A_ROW * length * tensors), MOST_BUCKETS // length)
    levels: list[int] = []
    for _ in range(steps // length):
        levels.append(0)
        while len(levels) > most:
            at = next_pair(levels, length)
            assert at is not None
            levels[at : at + 2] = [levels[at] + 1]
    return levels


def build(folder: Path, steps: int, tensors: int) -> None:
    """Leave the record of a long run."""
    rows = prepared(8, 250)
    rows = np.concatenate([rows] * (tensors // rows.shape[1]), axis=1)
    rows = np.concatenate([rows, np.ones((*rows.shape[:2], 1))], axis=2)
    length, ids = chunk_length(tensors), np.arange(tensors)
    writer = Writer(folder / "rank0.sqlite", {"model": "synthetic"})
    for i in range(tensors):
        kind = ("output", "grad_output", "weight", "grad", "update")[i * 5 // tensors]
        writer.tensor(Tensor(i, f"layers.{i}.linear", kind, 1, 0, (64, 64), "float32", {}))
    for step in range(steps):
        writer.scalar(step, "loss", 1 / (1 + step))
    levels = levels_of(steps, tensors)
    rng = np.random.default_rng(0)

    # The chunks come through the writer's thread, whose connection it is.
    def shelve(self: shelf.Shelf, *_: object) -> None:
        self._settle(tensors)
        first = 0
        for level in levels:
            own = rows[rng.integers(0, len(rows), length)] * 2.0**level
            begins = first + np.arange(length) * 2**level
            index = [(int(b), int(b) + 2**level - 1, b / 100, '{"training": true}') for b in begins]
            first += length * 2**level
            self._write_chunk(shelf._Chunk(level, index, Slab(ids, own), None, 0))

    with mock.patch.object(shelf.Shelf, "add", shelve):
        writer.step(0, 0.0, {}, {})
        assert writer.flush(120)
    assert writer.close() is None


def timed_ms(ask: Callable[[], object], times: int) -> float:
    """Median milliseconds of a call."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


def first_picture(folder: Path) -> None:
    timeline = Timeline(folder)
    tensors = timeline.tensors()
    timeline.steps()
    timeline.scalars("loss")
    series = timeline.series([tensor.id for tensor in tensors], "rms", points=200)
    assert series.values.shape[0] == len(tensors)
    assert np.isfinite(series.values).all()


def main() -> None:
    quick = options(__doc__).quick
    steps, tensors = (5000, 500) if quick else (STEPS, TENSORS)
    times = 3 if quick else 9
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        build(folder, steps, tensors)
        size = (folder / "rank0.sqlite").stat().st_size
        part = (steps // 4, steps // 2)
        one = tensors // 2
        cursor = Timeline(folder).since().cursor
        found = {
            "first picture": timed_ms(lambda: first_picture(folder), times),
            "zoom: one tensor's curve": timed_ms(
                lambda: Timeline(folder).series([one], "rms", *part), times
            ),
            "zoom: ten tensors' curves": timed_ms(
                lambda: Timeline(folder).series(range(one, one + 10), "rms", *part), times
            ),
            "zoom: one tensor's histograms": timed_ms(
                lambda: Timeline(folder).histograms(one, *part, 200), times
            ),
            "histograms over the whole run": timed_ms(
                lambda: Timeline(folder).histograms(one, points=200), times
            ),
            "zoom: the map of all tensors": timed_ms(
                lambda: Timeline(folder).series(range(tensors), "rms", *part, 200), times
            ),
            "news since the last ones": timed_ms(lambda: Timeline(folder).since(cursor), times),
            "opening the whole Record": timed_ms(lambda: Record(folder), 3),
        }
        record = Record(folder)
        began = time.perf_counter()
        for tensor in record.tensors:
            _ = record.summary(tensor).rms
        found["all numbers of all tensors"] = (time.perf_counter() - began) * 1e3
        buckets = len(record.steps)
    for name, ms in found.items():
        print(f"{name:32} {ms:8.1f} ms")
    print(f"{size / 1e6:.1f} MB, {buckets} rows of each tensor")
    if not quick:
        write(
            "record_zoom",
            __doc__,
            {},
            goals={"first picture, ms": "≤ 1000", "zoom: one tensor's histograms, ms": "≤ 100"},
            facts={
                "size, MB": round(size / 1e6, 1),
                "rows of each tensor": buckets,
                **{f"{name}, ms": round(ms, 1) for name, ms in found.items()},
            },
        )
        if found["first picture"] > 1000:
            sys.exit("the first picture takes more than a second")


if __name__ == "__main__":
    main()
