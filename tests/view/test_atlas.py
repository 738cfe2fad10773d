from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork.view.atlas import MOST_TILES, feature_maps, kernels, mosaic


def picture(made, step, kind, pixels, name="conv"):
    """Record one picture."""
    made.writer.picture(step, name, kind, pixels.shape, pixels.tobytes())


def noise(seed, *shape):
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def sheet(axes):
    """The pixels that the axes show, NaN in the gaps."""
    return np.ma.filled(axes.get_images()[0].get_array().astype(float), np.nan)


def test_kernels_show_first_last_and_their_difference(build):
    """The third sheet is the last picture minus the first, also where that is negative."""
    made = build()
    first, middle, last = (noise(seed, 16, 3, 3) for seed in range(3))
    for step, pixels in ((0, first), (10, middle), (40, last)):
        picture(made, step, "kernels", pixels)
    left, centre, right = kernels(made.read()).axes
    assert [axes.get_title() for axes in (left, centre, right)] == [""] * 3
    titles = [axes.get_title("left") for axes in (left, centre, right)]
    assert titles == ["step 0", "step 40", "change of pattern"]
    np.testing.assert_array_equal(sheet(left)[:3, :3], first[0])
    np.testing.assert_array_equal(sheet(centre)[:3, :3], last[0])
    np.testing.assert_array_equal(sheet(right)[:3, :3], last[0].astype(float) - first[0])


def test_kernels_at_one_step_only_show_no_change(build):
    """A run with one picture step has one sheet."""
    made = build()
    picture(made, 0, "kernels", noise(0, 4, 5, 5))
    assert len(kernels(made.read()).axes) == 1


def test_more_kernels_than_tiles_are_said(build):
    """Of 100 kernels 64 are drawn, and the figure says so."""
    made = build()
    picture(made, 0, "kernels", noise(0, 100, 3, 3))
    assert kernels(made.read()).get_supxlabel() == (
        f"conv: {MOST_TILES} of 100 kernels, each in its own greys"
    )


def test_feature_maps_stand_beside_the_input_of_the_same_step(build):
    """Each row holds the example and its maps, of the first and the last picture step."""
    made = build()
    images = {step: (noise(step, 1, 12, 12), noise(step + 1, 8, 6, 6)) for step in (0, 5, 20)}
    for step, (example, maps) in images.items():
        picture(made, step, "input", example, name="")
        picture(made, step, "feature_maps", maps)
    axes = feature_maps(made.read()).axes
    assert [a.get_title("left") for a in axes] == [
        "input at step 0", "conv at step 0", "input at step 20", "conv at step 20",
    ]  # fmt: skip
    np.testing.assert_array_equal(sheet(axes[2]), images[20][0][0])
    np.testing.assert_array_equal(sheet(axes[3])[:6, :6], images[20][1][0])


def test_feature_maps_do_without_an_input(build):
    """Maps alone make a figure of maps alone, also where their size changes."""
    made = build()
    picture(made, 0, "feature_maps", noise(0, 4, 6, 6))
    picture(made, 9, "feature_maps", noise(0, 4, 9, 7))
    figure = feature_maps(made.read())
    assert len(figure.axes) == 2
    figure.draw_without_rendering()


@pytest.mark.parametrize("draw", [feature_maps, kernels])
def test_a_record_without_pictures_gives_no_figure(build, draw):
    """A model without convolution has neither maps nor kernels."""
    assert draw(build().read()) is None


@settings(deadline=None, max_examples=50)
@given(st.integers(1, MOST_TILES + 9), st.integers(1, 12), st.integers(1, 12), st.floats(0.3, 3.0))
def test_a_mosaic_holds_every_image_once(count, height, width, aspect):
    """Sliding over the sheet finds all images up to the limit in order, with NaN between them."""
    images = np.arange(count * height * width, dtype=float).reshape(count, height, width)
    found = mosaic(images, aspect)
    kept = found[np.isfinite(found)]
    assert sorted(kept) == sorted(images[:MOST_TILES].ravel())
    for image in images[:MOST_TILES]:
        top, left = np.argwhere(found == image[0, 0])[0]
        np.testing.assert_array_equal(found[top : top + height, left : left + width], image)
