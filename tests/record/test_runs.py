"""Run folders: made, found, named."""

import os
import re

import pytest

from lampwork._core.errors import InputError, RecordError
from lampwork.record import runs
from lampwork.record.writer import Writer


def record(path):
    """Put a record into the folder of a run."""
    assert Writer(runs.database(path), {}).close() is None


@pytest.fixture
def torchrun(monkeypatch):
    """A function that makes this process one of two ranks."""

    def become(rank):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")

    return become


def test_a_run_gets_the_folder_of_its_name(tmp_path):
    """The folder is made together with those above it, and holds nothing."""
    path = runs.create(tmp_path / "deep" / "runs", "first")
    assert path == tmp_path / "deep" / "runs" / "first"
    assert list(path.iterdir()) == []


def test_a_taken_name_gets_a_number(tmp_path):
    """What a former run left is not touched: the next ones are called -2 and -3."""
    names = [runs.create(tmp_path, "net").name for _ in range(3)]
    assert names == ["net", "net-2", "net-3"]
    (tmp_path / "file").touch()
    assert runs.create(tmp_path, "file").name == "file-2"


def test_without_a_name_a_run_is_called_by_its_time(tmp_path):
    """Two runs of one second have folders of their own."""
    first, second = runs.create(tmp_path), runs.create(tmp_path)
    assert re.fullmatch(r"\d{8}-\d{6}", first.name)
    assert first != second


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x", "../up", "a/", "a\0b"])
def test_a_name_is_one_plain_folder_name(tmp_path, name):
    """A name with slashes or dots that lead elsewhere is refused, and no folder is made."""
    with pytest.raises(InputError, match="is not a plain folder name: leave out slashes and dots"):
        runs.create(tmp_path / "runs", name)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["v1.2", "größe 3", "-x", "..."])
def test_a_name_may_have_dots_and_blanks(tmp_path, name):
    """Any single folder name will do."""
    assert runs.create(tmp_path, name) == tmp_path / name


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path):
    """Where a file stands in the way, the error says so and how to choose another folder."""
    (tmp_path / "runs").write_text("not a folder")
    for directory in (tmp_path / "runs", tmp_path / "runs" / "deeper"):
        with pytest.raises(RecordError) as error:
            runs.create(directory, "net")
        assert str(error.value) == (
            f"cannot write a run folder in {str(directory)!r}: {os.strerror(20)}. "
            "Choose a folder that you may write, with dir=… or --dir"
        )


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize("name", ["net", None])
def test_a_read_only_place_is_an_error(name):
    """A file system that takes no folders is told as such, at once."""
    with pytest.raises(RecordError, match="cannot write a run folder in '/proc/self'"):
        runs.create("/proc/self", name)


def test_a_folder_that_takes_no_files_is_an_error(tmp_path, monkeypatch):
    """A folder that can be made and not written into is told before training begins."""

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(RecordError, match="Permission denied"):
        runs.create(tmp_path, "net")


def test_ranks_share_a_folder(tmp_path, torchrun):
    """Two ranks with one name, or none, come to one folder, with a file each."""
    for name in ("net", None):
        torchrun(0)
        first = runs.create(tmp_path, name)
        record(first)
        torchrun(1)
        second = runs.create(tmp_path, name)
        record(second)
        assert first == second
        assert sorted(path.name for path in first.glob("*.sqlite")) == [
            "rank0.sqlite",
            "rank1.sqlite",
        ]


def test_ranks_leave_a_former_run_alone(tmp_path, torchrun):
    """A second run of the same name under torchrun gets a number on every rank."""
    for expected in ("net", "net-2", "net-3"):
        for rank in (0, 1):
            torchrun(rank)
            path = runs.create(tmp_path, "net")
            assert path.name == expected
            record(path)


def test_ranks_leave_an_ended_run_of_one_process_alone(tmp_path, torchrun):
    """A folder with a report is closed to all ranks, also to those without a file in it."""
    alone = runs.create(tmp_path, "net")
    record(alone)
    (alone / "report.json").write_text("{}")
    for rank in (1, 0):
        torchrun(rank)
        assert runs.create(tmp_path, "net").name == "net-2"


def test_runs_are_listed_oldest_first(tmp_path):
    """Listed are the folders with a record, by its age; a missing folder has none."""
    for age, name in [(2, "b"), (1, "c"), (3, "a")]:
        path = runs.create(tmp_path, name)
        record(path)
        os.utime(path / "rank0.sqlite", (1000 - age, 1000 - age))
    (tmp_path / "empty").mkdir()
    assert [path.name for path in runs.list_runs(tmp_path)] == ["a", "b", "c"]
    assert runs.list_runs(tmp_path / "nowhere") == []


def test_a_missing_run_suggests_names(tmp_path):
    """A misspelt name lists the nearest ones, a strange one the latest."""
    for age, name in enumerate(["resnet-1", "resnet-2", "vit", "mlp"]):
        record(runs.create(tmp_path, name))
        os.utime(tmp_path / name / "rank0.sqlite", (1000 + age, 1000 + age))
    with pytest.raises(RecordError) as error:
        runs.find("resnet-3", tmp_path)
    assert str(error.value) == (
        "no record of a run at 'resnet-3' (no rank0.sqlite): there are resnet-2, resnet-1"
    )
    with pytest.raises(RecordError, match=r"there are resnet-2, vit, mlp"):
        runs.find(tmp_path / "zzz")


def test_where_nothing_was_recorded_the_cure_is_to_record(tmp_path):
    """In an empty folder the error says how to record a run."""
    with pytest.raises(RecordError, match="record one with `lampwork run SCRIPT`"):
        runs.find("net", tmp_path)
