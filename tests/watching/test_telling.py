"""What a user tells a run beside numbers, and how a run shows itself in a notebook."""

import numpy as np
import pytest
import torch

from lampwork._core.errors import InputError
from lampwork.diagnose.finding import Finding
from lampwork.record.reader import Note
from lampwork.watching.images import MAX_SIDE, as_pixels
from lampwork.watching.notebook import as_html
from tests.watching.training import batches, mlp, record_of, seeded, sgd, train, watched


def test_images_and_notes_are_kept_with_their_step(tmp_path):
    """A picture and a note go to the last step, and are read as they were given."""
    model = seeded(mlp)
    optimizer = sgd(model)
    grey = torch.linspace(0, 1, 12).reshape(1, 3, 4)
    with watched(model, tmp_path) as run:
        run.note("before the first step")
        train(model, optimizer, batches(3, 5, 4))
        run.image("recon", grey.requires_grad_())
        run.note("größer <b>")
    record = record_of(run)
    (picture,) = (picture for picture in record.pictures if picture.kind == "image")
    assert (picture.step, picture.name) == (2, "recon")
    expected = (np.linspace(0, 1, 12, dtype=np.float32) * 255).round().reshape(1, 3, 4)
    np.testing.assert_array_equal(picture.pixels, expected.astype(np.uint8))
    assert record.remarks == [Note(0, "before the first step"), Note(2, "größer <b>")]
    for late in (lambda: run.note("late"), lambda: run.image("late", grey)):
        with pytest.raises(InputError, match="the run is not in progress"):
            late()


@pytest.mark.parametrize(
    ("shape", "kept"),
    [
        ((4, 6), (1, 4, 6)),
        ((1, 4, 6), (1, 4, 6)),
        ((4, 6, 1), (1, 4, 6)),
        ((3, 4, 6), (1, 4, 6, 3)),
        ((4, 6, 3), (1, 4, 6, 3)),
        ((2 * MAX_SIDE + 1, 3 * MAX_SIDE), (1, 342, 512)),
    ],
)
def test_images_of_all_shapes(shape, kept):
    """Grey or colour, channels first or last; large ones are thinned out evenly."""
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pixels = as_pixels("x", values)
    assert pixels.shape == kept
    assert pixels.dtype == np.uint8
    first = values.transpose(1, 2, 0) if shape == (3, 4, 6) else values
    assert pixels.reshape(-1)[0] == first.reshape(-1)[0]
    if shape == (3, 4, 6):
        np.testing.assert_array_equal(pixels[0], first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.bool])
def test_images_of_all_types(dtype):
    """Floats of every width, with a NaN as black, and masks."""
    pixels = as_pixels("x", torch.tensor([[0, 1], [1, 0]]).to(dtype))
    assert pixels.tolist() == [[[0, 255], [255, 0]]]
    assert as_pixels("x", np.array([[np.nan, 1.0]])).tolist() == [[[0, 255]]]


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (torch.zeros(2, 3, 4, 4), r"'x' has shape \(2, 3, 4, 4\): give one image of shape"),
        (torch.zeros(7), r"shape \(7,\)"),
        (torch.zeros(0, 3), r"shape \(0, 3\)"),
        (torch.full((2, 2), 3.0), r"values from 3 to 3, floats are to lie in \[0, 1\]: scale them"),
        (np.zeros((2, 2), np.int64), "dtype int64: give uint8, or floats in"),
    ],
)
def test_wrong_images_are_told(array, told):
    """Shape, range or type with what to give instead."""
    with pytest.raises(InputError, match=told):
        as_pixels("x", array)


def test_a_note_is_a_text(tmp_path):
    """Anything else is refused at once."""
    with (
        watched(seeded(mlp), tmp_path) as run,
        pytest.raises(InputError, match="a note is a text, not a int"),
    ):
        run.note(3)


def test_a_run_shows_its_state(tmp_path):
    """Before, during and after: the step, the loss so far, the verdict."""
    model = seeded(mlp)
    run = watched(model, tmp_path, name="<i>")
    assert repr(run) == "<Watch of Sequential, not started>"
    assert "not started" in run._repr_html_()
    optimizer = sgd(model)
    with run:
        for x in batches(6, 5, 4):
            train(model, optimizer, [x])
            run.log(loss=2.0)
        assert repr(run) == "<Watch of Sequential, run '<i>', step 6>"
        shown = run._repr_html_()
        assert "run &lt;i&gt;" in shown
        assert "<i>" not in shown
        assert ">6</td>" in shown
        assert "2 → 2" in shown
        assert "verdict" in shown
    assert ">6, ended</td>" in run._repr_html_()
    assert repr(run).endswith("step 6, ended>")


def test_findings_are_shown_and_escaped():
    """A finding is shown with its place, its sentence and its code line; no text becomes markup."""
    finding = Finding("act-dead", "fail", "a<b", 40, {}, "It is <dead>.\nx = y[0] & 1")
    shown = as_html("run", [], "fail", [finding])
    assert "act-dead" in shown
    assert "a&lt;b, step 40: It is &lt;dead&gt;.<br><code>x = y[0] &amp; 1</code>" in shown
