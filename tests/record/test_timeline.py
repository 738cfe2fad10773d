"""What a page asks for: ranges, points, news."""

import numpy as np
import pytest

from lampwork._core.errors import InputError, RecordError
from lampwork.record.reader import Note, Record
from lampwork.record.schema import Tensor
from lampwork.record.timeline import STATISTICS, Timeline
from lampwork.record.writer import Writer


def test_the_whole_range_is_what_the_record_says(run):
    """Without a range, series and histograms are the record's own numbers."""
    record, timeline = Record(run), Timeline(run)
    assert timeline.tensors() == record.tensors
    assert timeline.steps().first.tolist() == [0, 10]
    assert timeline.meta()["model"] == "Net"
    for statistic in STATISTICS:
        with np.errstate(invalid="ignore"):
            series = timeline.series([0, 1, 2], statistic)
            expected = [getattr(record.summary(tensor), statistic) for tensor in record.tensors]
        np.testing.assert_array_equal(series.values, expected)
    np.testing.assert_array_equal(
        timeline.histograms(2).counts, record.summary(record.tensors[2]).histogram
    )


def test_summaries_hold_every_statistic(run):
    """All statistics of a range come in one reading, the same numbers as one by one."""
    timeline = Timeline(run)
    found = timeline.summaries([2, 0], points=1)
    for statistic in STATISTICS:
        series = timeline.series([2, 0], statistic, points=1)
        np.testing.assert_array_equal(getattr(found.summary, statistic), series.values)
    assert (found.first.tolist(), found.last.tolist()) == ([0], [10])


def test_the_present_is_told_without_the_past(run):
    """Last values, first step, counts and notes are the record's own."""
    record, timeline = Record(run), Timeline(run)
    assert timeline.latest() == {n: record.scalar(n)[1][-1] for n in record.scalar_names}
    assert timeline.first_step() == record.steps[0]
    assert timeline.tensor_count() == len(record.tensors)
    assert timeline.told()[1] == record.notes
    assert timeline.loaders() == record.loaders
    curves = timeline.all_scalars()
    assert list(curves) == record.scalar_names
    for name, curve in curves.items():
        np.testing.assert_array_equal(curve.mean, timeline.scalars(name).mean)
    news = timeline.since(timeline.now())
    assert [news.steps, news.scalars, news.pictures, news.notes] == [[], [], [], []]


def test_a_tensor_that_is_not_there_is_nan(run):
    """An id that nobody has, or a range without a step, gives NaN or nothing and no error."""
    timeline = Timeline(run)
    assert np.isnan(timeline.series([0, 99], "mean").values[1]).all()
    assert timeline.series([0], "mean", 3, 9).values.shape == (1, 0)
    assert timeline.histograms(0, 100, 200).counts.shape[0] == 0
    assert timeline.scalars("nothing").mean.tolist() == []


def test_wrong_questions_are_told(run, tmp_path):
    """An unknown statistic, no points, no run: errors that name what there is."""
    with pytest.raises(InputError, match="no statistic 'median': choose one of"):
        Timeline(run).series([0], "median")
    with pytest.raises(InputError, match="points=0 must be 1 or more"):
        Timeline(run).series([0], "mean", points=0)
    with pytest.raises(RecordError, match="no record of a run"):
        Timeline(tmp_path / "nothing")


def test_pictures_are_listed_without_pixels_and_fetched_by_step(run):
    """The list of pictures is cheap; one is fetched by name, step and kind."""
    timeline = Timeline(run)
    (shot,) = timeline.shots()
    assert (shot.step, shot.name, shot.kind, shot.shape) == (0, "conv", "kernels", (2, 3, 3))
    assert timeline.pictures("conv", 0)[0].pixels.ravel().tolist() == list(range(18))
    assert timeline.pictures("conv", 1) == []
    assert timeline.picture(shot.id).pixels.shape == shot.shape
    assert timeline.picture(99) is None


def test_news_come_once_each(tmp_path, row):
    """While a run goes on, each step, number, picture and note is told once, in order."""
    writer = Writer(tmp_path / "rank0.sqlite", {})
    writer.tensor(Tensor(0, "fc", "output", 1, 0, (2,), "float32", {}))
    timeline = Timeline(tmp_path)
    cursor, steps, scalars, notes, shots = None, [], [], [], []
    for i in range(40):
        writer.step(i, 0.0, {0: row(i)}, {})
        writer.scalar(i, "loss", float(i))
        if i % 10 == 0:
            writer.note(i, f"note {i}")
            writer.picture(i, "conv", "maps", (1, 1, 1), b"\0")
        if i % 7 == 0:
            assert writer.flush()
            news = timeline.since(cursor)
            cursor = news.cursor
            assert not news.finished
            steps += news.steps
            scalars += news.scalars
            notes += news.notes
            shots += news.pictures
    writer.meta("finished", True)
    assert writer.close() is None
    last = timeline.since(cursor)
    assert last.finished
    assert steps + last.steps == list(range(40))
    assert scalars + last.scalars == [(i, "loss", float(i)) for i in range(40)]
    assert notes + last.notes == [Note(i, f"note {i}") for i in range(0, 40, 10)]
    assert [shot.step for shot in shots + last.pictures] == [0, 10, 20, 30]
    again = timeline.since(last.cursor)
    assert (again.steps, again.scalars, again.pictures, again.notes) == ([], [], [], [])
    assert again.cursor == last.cursor
    assert Record(tmp_path).remarks[0] == Note(0, "note 0")
