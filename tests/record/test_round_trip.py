"""What is written is what is read."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from lampwork._core.errors import RecordError
from lampwork._core.summary import empty_row
from lampwork.record.reader import Loader, Record
from lampwork.record.schema import VERSION, Tensor
from lampwork.record.writer import Writer


def test_everything_comes_back(run, row):
    """Meta, tensors, steps with notes, pictures and loaders are read as they were written."""
    record = Record(run)
    assert record.meta == {
        "schema": VERSION,
        "model": "Net",
        "argv": ["train.py", "--größe"],
        "finished": True,
    }
    assert [tensor.label for tensor in record.tensors] == ["fc", "fc#2", "fc.weight"]
    weight = record.find("fc.weight", "weight")
    assert weight == record.tensors[2]
    assert weight.shape == (4, 4)
    assert weight.facts == {"requires_grad": True, "optimized": True}
    assert record.steps.tolist() == [0, 10]
    assert record.seconds.tolist() == [0.5, 1.5]
    assert record.notes == [{"training": True, "lr": [0.1]}, {"training": False}]
    assert record.loaders == [
        Loader("Digits", {"batches": 7, "wait_share": 0.5, "skipped": [[3, "KeyError"]]})
    ]
    (picture,) = record.pictures
    assert (picture.step, picture.name, picture.kind) == (0, "conv", "kernels")
    np.testing.assert_array_equal(picture.pixels, np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    np.testing.assert_array_equal(
        record.summary(record.tensors[0]).rows, np.stack([row(0), row(2)])
    )


def test_a_tensor_that_was_not_seen_at_a_step_is_nan_there(run):
    """A row that was not written reads as NaN, one that was written empty as empty."""
    record = Record(run)
    rows = record.summary(record.find("fc", "output", call=2)).rows
    assert np.isnan(rows[0]).all()
    np.testing.assert_array_equal(rows[1], empty_row())


def test_scalars_keep_order_and_non_finite_values(run):
    """Logged numbers come in their order by name; NaN and infinity survive."""
    record = Record(run)
    assert record.scalar_names == ["loss", "accuracy"]
    steps, values = record.scalar("loss")
    assert steps.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(values, [2.5, np.nan, np.inf])
    assert [array.size for array in record.scalar("nothing")] == [0, 0]


def test_tensors_are_found_by_kind_in_the_order_of_depth(run):
    """`of_kind` gives one kind in order of the ids, `find` nothing where there is none."""
    record = Record(run)
    assert [tensor.id for tensor in record.of_kind("output")] == [0, 1]
    assert record.of_kind("update") == []
    assert record.find("fc", "output", part=1) is None


def test_a_tensor_announced_again_keeps_its_id_and_its_rows(tmp_path, row):
    """Saying more of a tensor later changes its facts and nothing else."""
    writer = Writer(tmp_path / "rank0.sqlite", {})
    for optimized in (False, True):
        facts = {"optimized": optimized}
        writer.tensor(Tensor(0, "w", "weight", 1, 0, (2,), "float32", facts))
        writer.step(int(optimized), 0.0, {0: row(int(optimized))}, {})
    assert writer.close() is None
    record = Record(tmp_path)
    (tensor,) = record.tensors
    assert tensor.facts == {"optimized": True}
    assert np.isfinite(record.summary(tensor).rows).all()


def test_a_record_without_a_step_is_a_record(tmp_path):
    """A run that ended before its first step reads as empty, and its summaries as well."""
    writer = Writer(tmp_path / "rank0.sqlite", {})
    writer.tensor(Tensor(0, "w", "weight", 1, 0, (2,), "float32", {}))
    assert writer.close() is None
    record = Record(tmp_path)
    assert record.steps.tolist() == []
    assert record.summary(record.tensors[0]).count.shape == (0,)


def test_a_record_is_read_as_of_one_moment(tmp_path, row, monkeypatch):
    """What is committed while the tables are read one after the other is in none of them."""
    writer = Writer(tmp_path / "rank0.sqlite", {"model": "Net"})
    loads, meanwhile = json.loads, []

    def slowly(text):
        if not meanwhile:
            writer.tensor(Tensor(0, "w", "weight", 1, 0, (2,), "float32", {}))
            writer.step(0, 0.0, {0: row(0)}, {})
            meanwhile.append(writer.flush())
        return loads(text)

    monkeypatch.setattr(json, "loads", slowly)
    record = Record(tmp_path)
    assert meanwhile == [True]
    assert (record.tensors, record.steps.tolist()) == ([], [])
    assert len(Record(tmp_path).steps) == 1
    assert writer.close() is None


def test_a_run_is_found_by_folder_file_or_name(run, monkeypatch):
    """A run may be given as its folder, as its file, or as its name in the runs' folder."""
    for given in (run, str(run), run / "rank0.sqlite"):
        assert Record(given).path == run
    assert Record("small", run.parent).path == run
    monkeypatch.chdir(run.parent.parent)
    assert Record("small").path.resolve() == run


def test_a_newer_schema_is_refused(run):
    """A record of a later lampwork is refused with both versions and the cure."""
    with closing(sqlite3.connect(run / "rank0.sqlite")) as db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (json.dumps(VERSION + 1),))
        db.commit()
    with pytest.raises(RecordError) as error:
        Record(run)
    assert str(error.value) == (
        f"{str(run)!r} has schema {VERSION + 1}, this lampwork reads up to {VERSION}: "
        "upgrade lampwork"
    )


@pytest.mark.parametrize("content", [b"", b"hello, I am a text file" * 100])
def test_a_file_that_is_no_record_is_told_as_such(tmp_path, content):
    """An empty file or one of another kind is a RecordError that names it."""
    (tmp_path / "rank0.sqlite").write_bytes(content)
    with pytest.raises(RecordError, match=r"rank0.sqlite' cannot be read as a record: "):
        Record(tmp_path)


def test_another_database_is_told_as_such(tmp_path):
    """A database with tables of its own is no record."""
    with closing(sqlite3.connect(tmp_path / "rank0.sqlite")) as db:
        db.execute("CREATE TABLE meta (key TEXT, value TEXT)")
        db.commit()
    with pytest.raises(RecordError, match="cannot be read as a record"):
        Record(tmp_path)


def test_paths_with_odd_characters_are_read(tmp_path, row):
    """Blanks, `#`, `?`, `%` and quotes in a path are no part of a query."""
    path = tmp_path / "a b#c?d%20'e"
    path.mkdir()
    assert Writer(path / "rank0.sqlite", {"model": "Net"}).close() is None
    assert Record(path).meta["model"] == "Net"
