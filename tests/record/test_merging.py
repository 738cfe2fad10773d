"""A long run: within its bound, its old steps merged exactly, both ends in full."""

import numpy as np
import pytest

from lampwork._core.summary import COLUMN, WIDTH, Summary, empty_row, merge
from lampwork.record import shelf, thinning
from lampwork.record import writer as writer_module
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor
from lampwork.record.timeline import Timeline
from lampwork.record.united import averaged
from lampwork.record.writer import Writer

STEPS, TENSORS, EVERY = 700, 3, 10


def rows_at(step):
    """Rows of whole numbers, which add up the same in any order."""
    rng = np.random.default_rng(step)
    rows = rng.integers(1, 1000, (TENSORS, WIDTH)).astype(np.float64)
    rows[:, COLUMN["min"]] *= -1
    return rows


@pytest.fixture
def long_run(tmp_path, monkeypatch):
    """The folder of a run that had room for a fraction of its steps."""
    monkeypatch.setattr(shelf, "ROWS_BYTES", 80_000)
    writer = Writer(tmp_path / "rank0.sqlite", {"model": "Net"})
    for i in range(TENSORS):
        writer.tensor(Tensor(i, f"m{i}", "output", 1, 0, (8,), "float32", {}))
    for i in range(STEPS):
        seen = np.arange(TENSORS) if i % 3 else np.arange(TENSORS - 1)
        writer.step(EVERY * i, float(i), (seen, rows_at(i)[seen]), {"i": i})
        if i % 97 == 0:
            writer.flush()
    assert writer.close() is None
    return tmp_path


def expected(tensor, first, last):
    """The average of all steps from first to last at which the tensor was seen."""
    row, times = empty_row(), 0
    for i in range(first // EVERY, last // EVERY + 1):
        if i % 3 or tensor < TENSORS - 1:
            row, times = merge(row, rows_at(i)[tensor]), times + 1
    return averaged(np.append(row, times)[None])[0]


def test_every_bucket_is_the_exact_merge_of_its_steps(long_run):
    """Buckets cover the run without gap or overlap, and each is what merging its steps gives."""
    record = Record(long_run)
    assert len(record.steps) < STEPS / 2
    assert record.steps[0] == 0
    assert record.last_steps[-1] == EVERY * (STEPS - 1)
    np.testing.assert_array_equal(record.steps[1:], record.last_steps[:-1] + EVERY)
    assert [notes["i"] for notes in record.notes] == (record.steps // EVERY).tolist()
    for tensor in record.tensors:
        rows = record.summary(tensor).rows
        for row, first, last in zip(rows, record.steps, record.last_steps, strict=True):
            np.testing.assert_array_equal(row, expected(tensor.id, first, last))


def test_both_ends_stay_in_full(long_run):
    """The first 16 recorded steps and the newest ones are as they were written."""
    record = Record(long_run)
    lengths = (record.last_steps - record.steps) // EVERY + 1
    assert (lengths[:16] == 1).all()
    assert (lengths[-16:] == 1).all()
    assert lengths.max() >= 8


def test_a_merged_row_is_read_as_the_average_step(long_run):
    """Counts and norms keep the size of one step, whatever was merged."""
    record = Record(long_run)
    count = record.summary(record.tensors[0]).count
    assert np.isfinite(count).all()
    assert count.max() < 1000
    norm = record.summary(record.tensors[0]).norm
    assert norm.max() <= np.sqrt(999)


@pytest.mark.parametrize("points", [1, 7, 50, 10_000])
def test_the_timeline_merges_to_points(long_run, points):
    """A series over a range is the exact merge of the buckets of each of its points."""
    timeline = Timeline(long_run)
    first, last = 1000, 5999
    series = timeline.series([2, 0], "mean", first, last, points)
    histograms = timeline.histograms(0, first, last, points)
    assert len(series.first) <= points
    assert series.values.shape == (2, len(series.first))
    assert (series.last >= first).all()
    assert (series.first <= last).all()
    np.testing.assert_array_equal(series.first, histograms.first)
    for i, (a, b) in enumerate(zip(series.first, series.last, strict=True)):
        for row, tensor in enumerate((2, 0)):
            one = expected(tensor, a, b)
            np.testing.assert_allclose(series.values[row, i], Summary(one).mean, rtol=1e-12)
        np.testing.assert_allclose(histograms.counts[i], Summary(expected(0, a, b)).histogram)
    np.testing.assert_array_equal(histograms.summary.mean, series.values[1])


def test_scalars_keep_their_extremes_and_both_ends(tmp_path, monkeypatch):
    """Of a number logged very often, old values become means between their extremes."""
    monkeypatch.setattr(thinning, "MOST_OF_ONE_NAME", 200)
    writer = Writer(tmp_path / "rank0.sqlite", {})
    rng = np.random.default_rng(0)
    values = rng.normal(size=5000)
    values[1234] = np.nan
    for step, value in enumerate(values.tolist()):
        writer.scalar(step, "loss", value)
        writer.scalar(step, "rare", 1.0) if step % 500 == 0 else None
    assert writer.close() is None
    steps, means = Record(tmp_path).scalar("loss")
    assert len(steps) <= 200
    np.testing.assert_array_equal(means[:32], values[:32])
    assert (steps[-1], means[-1]) == (4999, values[-1])
    assert np.isnan(means).sum() == 1
    assert Record(tmp_path).scalar("rare")[0].tolist() == list(range(0, 5000, 500))
    curve = Timeline(tmp_path).scalars("loss")
    assert curve.count.sum() == 5000
    np.testing.assert_array_equal(curve.first[1:], curve.last[:-1] + 1)
    for a, b, low, high, mean, count in zip(
        curve.first, curve.last, curve.low, curve.high, curve.mean, curve.count, strict=True
    ):
        part = values[a : b + 1]
        assert count == len(part)
        assert (low, high) == (np.nanmin(part), np.nanmax(part))
        np.testing.assert_allclose(mean, part.mean(), rtol=1e-9)
    few = Timeline(tmp_path).scalars("loss", 1000, 2000, 5)
    assert len(few.first) <= 5
    assert few.count.sum() >= 1001


def test_more_names_than_anyone_can_read_are_only_counted(tmp_path, monkeypatch):
    """Names beyond the bound are dropped, and the record says how many numbers that were."""
    monkeypatch.setattr(thinning, "MOST_NAMES", 10)
    writer = Writer(tmp_path / "rank0.sqlite", {})
    for i in range(15):
        writer.scalar(0, f"loss_{i}", 1.0)
    assert writer.close() is None
    record = Record(tmp_path)
    assert len(record.scalar_names) == 10
    assert record.meta["dropped"]["scalars"] == 5


def test_pictures_keep_the_first_and_the_last(tmp_path, monkeypatch):
    """Where pictures are too many, those in between go; first and last of each kind stay."""
    monkeypatch.setattr(thinning, "PICTURES_BYTES", 40_000)
    writer = Writer(tmp_path / "rank0.sqlite", {})
    rng = np.random.default_rng(0)
    for step in range(60):
        for kind in ("kernels", "maps"):
            pixels = rng.integers(0, 256, (1, 40, 40), dtype=np.uint8)
            writer.picture(step, "conv", kind, pixels.shape, pixels.tobytes())
    assert writer.close() is None
    for kind in ("kernels", "maps"):
        steps = [picture.step for picture in Timeline(tmp_path).pictures("conv", kind=kind)]
        assert steps[0] == 0
        assert steps[-1] == 59
        assert 4 < len(steps) < 20
        assert steps == sorted(set(steps))
    record = Record(tmp_path)
    assert sum(picture.pixels.nbytes for picture in record.pictures) <= 42_000
    np.testing.assert_array_equal(record.pictures[-1].pixels, pixels)


def test_notes_end_at_their_bound(tmp_path, monkeypatch):
    """A script that notes every batch fills no disk."""
    monkeypatch.setattr(writer_module, "NOTES_CHARACTERS", 25)
    own = Writer(tmp_path / "rank0.sqlite", {})
    for step in range(9):
        own.note(step, "ten chars.")
    assert own.close() is None
    assert [note.text for note in Record(tmp_path).remarks] == ["ten chars.", "ten chars.", "ten c"]


def test_a_model_of_many_tensors_keeps_the_bound_too(tmp_path, monkeypatch):
    """Where a single step takes a tenth of the room, old steps are merged all the same."""
    monkeypatch.setattr(shelf, "ROWS_BYTES", 2_000_000)
    own = Writer(tmp_path / "rank0.sqlite", {})
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 200, (11_000, WIDTH)).astype(np.float64)
    rows[:, 16:] = 0
    for step in range(40):
        own.step(step, 0.0, (np.arange(len(rows)), rows), {})
    assert own.close() is None
    assert (tmp_path / "rank0.sqlite").stat().st_size < 3_000_000
    steps = Timeline(tmp_path).steps()
    assert len(steps.first) < 20
    assert steps.last[-1] == 39
    np.testing.assert_array_equal(steps.first[1:], steps.last[:-1] + 1)
    counts = Timeline(tmp_path).series([0, 10_999], "count").values
    np.testing.assert_array_equal(counts, np.broadcast_to(rows[[0, -1], :1], counts.shape))
