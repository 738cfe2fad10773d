"""A record as one tidy table in a Parquet file, for DuckDB, pandas, polars and the like.

One row for each tensor and recorded step (or, of old steps of a long run, stretch of steps), and
one for each logged number, under the kind `scalar`:

    name, kind, call, part     which tensor
    first_step, last_step      equal unless steps were merged
    seconds                    since the start of the run
    count … dead_share         the statistics of `Summary`, of one step on the average; null where
                               the tensor was not seen or there is no such number
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lampwork._core.errors import InputError
from lampwork.record.reader import Record
from lampwork.record.timeline import STATISTICS, Timeline

AT_ONCE = 256
"""Tensors (or names of scalars) of one row group: no more than these are in memory together."""


def write_parquet(record: Record, file: str | os.PathLike[str]) -> int:
    """Write the table; how many rows it has.

    Raises:
        InputError: pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            "Parquet files are written by pyarrow, which is not installed: "
            "pip install 'lampwork[parquet]'"
        ) from error
    texts = [("name", pa.string()), ("kind", pa.string())]
    numbers = [(name, pa.int32()) for name in ("call", "part")]
    steps = [("first_step", pa.int64()), ("last_step", pa.int64()), ("seconds", pa.float64())]
    schema = pa.schema([*texts, *numbers, *steps, *((name, pa.float64()) for name in STATISTICS)])
    total = 0
    half = Path(file).with_name(Path(file).name + ".part")  # no half a table under its name
    try:
        with pq.ParquetWriter(half, schema) as writer:
            for columns in _groups(record):
                table = pa.table(
                    [pa.array(columns[f.name], f.type, from_pandas=True) for f in schema], schema
                )
                writer.write_table(table)
                total += table.num_rows
        half.replace(file)
    except OSError as error:
        raise InputError(f"cannot write {os.fspath(file)!r}: {error.strerror or error}") from error
    return total


def _groups(record: Record) -> Iterator[dict[str, Any]]:
    for begin in range(0, len(record.tensors), AT_ONCE):
        yield _of_tensors(record, begin)
    names = record.scalar_names
    for begin in range(0, len(names), AT_ONCE):
        yield _of_scalars(record, names[begin : begin + AT_ONCE])


def _of_tensors(record: Record, begin: int) -> dict[str, Any]:
    tensors, rows = record.tensors[begin : begin + AT_ONCE], len(record.steps)
    columns: dict[str, Any] = {
        name: np.repeat([getattr(tensor, name) for tensor in tensors], rows)
        for name in ("name", "kind", "call", "part")
    }
    for name, values in (
        ("first_step", record.steps),
        ("last_step", record.last_steps),
        ("seconds", record.seconds),
    ):
        columns[name] = np.tile(values, len(tensors))
    summaries = [record.summary(tensor) for tensor in tensors]
    for name in STATISTICS:
        columns[name] = np.concatenate([getattr(summary, name) for summary in summaries])
    return columns


def _of_scalars(record: Record, names: list[str]) -> dict[str, Any]:
    timeline = Timeline(record.path)
    curves = [timeline.scalars(name, points=2**31) for name in names]
    lengths = [len(curve.first) for curve in curves]
    total = sum(lengths)
    nothing = np.full(total, np.nan)
    columns: dict[str, Any] = dict.fromkeys(("seconds", *STATISTICS), nothing)
    columns |= {"name": np.repeat(names, lengths), "kind": np.repeat("scalar", total)}
    columns |= {"call": np.ones(total), "part": np.zeros(total)}
    for column, field in (
        ("first_step", "first"),
        ("last_step", "last"),
        ("count", "count"),
        ("mean", "mean"),
        ("min", "low"),
        ("max", "high"),
    ):
        columns[column] = np.concatenate([getattr(curve, field) for curve in curves])
    return columns
