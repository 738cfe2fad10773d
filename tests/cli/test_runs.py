"""`lampwork runs` and `lampwork export`: what has been recorded, for people and for programs."""

import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from lampwork._core.errors import InputError
from lampwork._core.summary import WIDTH
from lampwork.cli.app import app
from lampwork.diagnose.verdict import diagnose, verdict
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor
from lampwork.record.timeline import STATISTICS
from lampwork.record.writer import Writer
from tests.cli.scripts import lampwork


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a finished run, one in progress or killed, and a broken one."""
    monkeypatch.chdir(tmp_path)
    for name in ("done", "going", "broken"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    facts = {"model": "Net", "started": "2026-11-25T10:00:00+01:00"}
    for name in ("done", "going"):
        writer = Writer(tmp_path / "runs" / name / "rank0.sqlite", facts)
        writer.tensor(Tensor(0, "fc", "output", 1, 0, (8,), "float32", {}))
        for step in (0, 10):
            rows = np.random.default_rng(step).integers(1, 9, (1, WIDTH)).astype(float)
            writer.step(step, step / 10, (np.array([0]), rows), {"training": True})
        for step in range(3):
            writer.scalar(step, "loss", 1.0 + step)
        if name == "done":
            writer.meta("steps", 12)
            writer.meta("finished", True)
        assert writer.close() is None
    (tmp_path / "runs" / "done" / "report.json").write_text('{"verdict": "warn"}')
    (tmp_path / "runs" / "broken" / "rank0.sqlite").write_text("no database")
    return tmp_path


def test_runs_are_listed_with_size_and_verdict(folder):
    """The table tells steps, size and verdict; it marks a run without an end, and a broken one."""
    ended = lampwork(folder, "runs")
    assert (ended.code, ended.err) == (0, "")
    lines = {line.split()[0]: line for line in ended.out.splitlines()[1:] if line[0] != " "}
    assert lines["done"].split()[2:] == ["Net", "12", "0.1", "MB", "warn"]
    judged = verdict(diagnose(Record("going")))
    assert lines["going"].split()[2:] == ["Net", "11…", "0.1", "MB", judged]
    assert "unreadable: " in lines["broken"]


def test_runs_as_json(folder):
    """The list as JSON has the same facts, sizes in bytes, and loads back."""
    told = json.loads(CliRunner().invoke(app, ["runs", "--json"]).stdout)
    assert told["schema"] == 1
    runs = {run["run"]: run for run in told["runs"]}
    size = sum(file.stat().st_size for file in (folder / "runs" / "done").iterdir())
    assert runs["done"] == {
        "run": "done",
        "path": "runs/done",
        "started": "2026-11-25T10:00:00+01:00",
        "model": "Net",
        "steps": 12,
        "ranks": 1,
        "size_bytes": size,
        "finished": True,
        "verdict": "warn",
    }
    assert (runs["going"]["steps"], runs["going"]["finished"]) == (11, False)
    assert "cannot be read as a record" in runs["broken"]["error"]
    assert (
        json.loads(CliRunner().invoke(app, ["runs", "--json", "--dir", "x"]).stdout)["runs"] == []
    )


def test_a_run_becomes_one_parquet_table(folder):
    """There is a row for each tensor and step and for each number, with the record's values."""
    parquet = pytest.importorskip("pyarrow.parquet")
    done = CliRunner().invoke(app, ["export", "done", "done.parquet"])
    assert (done.exit_code, done.stdout) == (0, "done.parquet: 5 rows\n")
    table = parquet.read_table("done.parquet").to_pylist()
    outputs = [row for row in table if row["kind"] == "output"]
    record = Record("done")
    summary = record.summary(record.tensors[0])
    assert [row["first_step"] for row in outputs] == [0, 10]
    assert [row["seconds"] for row in outputs] == [0.0, 1.0]
    for name in STATISTICS:
        values = [np.nan if row[name] is None else row[name] for row in outputs]
        np.testing.assert_array_equal(values, getattr(summary, name))
    scalars = [row for row in table if row["kind"] == "scalar"]
    assert [(row["name"], row["first_step"], row["mean"]) for row in scalars] == [
        ("loss", 0, 1.0),
        ("loss", 1, 2.0),
        ("loss", 2, 3.0),
    ]
    assert scalars[0]["rms"] is None


def test_export_tells_what_it_cannot_do(folder):
    """Another ending and a folder that is not there are told, and nothing is left behind."""
    ended = lampwork(folder, "export", "done", "done.csv")
    assert ended.code == 2
    assert ended.err.startswith("lampwork: 'done.csv' does not end in .parquet")
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match=r"cannot write 'nowhere/done.parquet'"):
        CliRunner().invoke(app, ["export", "done", "nowhere/done.parquet"], catch_exceptions=False)


def test_without_pyarrow_the_cure_is_told(folder, monkeypatch):
    """Where pyarrow is missing, the error says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'lampwork\[parquet\]'"):
        CliRunner().invoke(app, ["export", "done", "done.parquet"], catch_exceptions=False)
