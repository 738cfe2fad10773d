"""What is kept of what was unpacked: never more than allowed, and never of another run."""

import numpy as np
import pytest

from lampwork.record.packing import pack
from lampwork.record.schema import Tensor
from lampwork.record.timeline import Timeline
from lampwork.record.unpacked import Unpacked
from lampwork.record.writer import Writer

PACKED = [pack(np.full((1, 1), float(i))) for i in range(4)]


def test_what_was_not_asked_for_longest_goes_first():
    """An array is made once while it is kept; when all are too large, the oldest is made again."""
    made = []
    kept = Unpacked(most_bytes=3 * 80)

    def ask(i):
        found = kept.get(PACKED[i], "head", lambda: made.append(i) or np.full(10, float(i)))
        assert (found == i).all()
        assert not found.flags.writeable
        assert kept.size_bytes <= 3 * 80

    for i in (0, 1, 2, 0, 3, 0, 2, 1):
        ask(i)
    assert made == [0, 1, 2, 3, 1]
    assert (kept.get(PACKED[0], "bins", lambda: np.full(1, -1.0)) == -1).all()


@pytest.mark.parametrize("again", [False, True], ids=["going on", "recorded anew"])
def test_what_is_kept_is_what_the_file_says(again, tmp_path, row):
    """While a run goes on, and where its folder holds another one, answers are those of the file.

    Its chunks of 16 steps are kept from the first look on; the other run has the same steps.
    """
    kept, file = Unpacked(), tmp_path / "rank0.sqlite"

    def record(seed):
        writer = Writer(file, {})
        for i in range(3):
            writer.tensor(Tensor(i, f"fc{i}", "output", 1, 0, (2,), "float32", {}))
        for step in range(48):
            writer.step(step, 0.0, {i: row(seed + step * (i + 1)) for i in range(3)}, {})
            if step % 20 == 19:
                assert writer.flush()
                look()
        assert writer.close() is None
        look()

    def look():
        before = Timeline(tmp_path, unpacked=kept), Timeline(tmp_path)
        for points in (500, 7):
            own, fresh = (one.summaries([2, 0], 3, 40, points) for one in before)
            assert own.summary.rows.tobytes() == fresh.summary.rows.tobytes()
            own, fresh = (one.histograms(1, points=points) for one in before)
            assert own.counts.tobytes() == fresh.counts.tobytes()

    record(0)
    assert kept.size_bytes > 0
    if again:
        for one in tmp_path.iterdir():
            one.unlink()
        record(1000)
