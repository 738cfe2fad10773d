from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork.view.atlas import feature_maps, kernels, weight_maps
from lampwork.view.mosaic import MOST_TILES, mosaic


def picture(made, step, kind, pixels, name="conv"):
    """Record one picture."""
    made.writer.picture(step, name, kind, pixels.shape, pixels.tobytes())


def noise(seed, *shape):
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def sheet(axes):
    """The pixels that the axes show, NaN in the gaps."""
    return np.ma.filled(axes.get_images()[0].get_array().astype(float), np.nan)


def test_kernels_show_first_last_and_their_change(build):
    """A row per layer: the first picture, the last, and the last change that was recorded."""
    made = build()
    first, middle, last, change = (noise(seed, 16, 3, 3) for seed in range(4))
    for step, pixels in ((0, first), (10, middle), (40, last)):
        picture(made, step, "kernels", pixels)
        picture(made, step, "kernels_change", change if step == 40 else middle)
    left, centre, right, bar = kernels(made.read()).axes
    titles = [axes.get_title("left") for axes in (left, centre, right)]
    assert titles == ["step 0", "step 40", "change"]
    for axes, pixels in ((left, first), (centre, last), (right, change)):
        np.testing.assert_array_equal(sheet(axes)[:3, :3], pixels[0])
    assert [text.get_text() for text in bar.get_yticklabels()] == ["-1", "0", "1"]


def test_kernels_at_one_step_only_show_no_change(build):
    """A run with one picture step has one sheet and its scale."""
    made = build()
    picture(made, 0, "kernels", noise(0, 4, 5, 5))
    assert len(kernels(made.read()).axes) == 2


def test_colour_kernels_keep_their_colours(build):
    """A layer that takes RGB is drawn in colour, gaps transparent; layers beside it are signed."""
    made = build()
    colour, grey = noise(0, 4, 5, 5, 3), noise(1, 4, 3, 3)
    picture(made, 0, "kernels", colour, name="rgb")
    picture(made, 0, "kernels", grey, name="later")
    upper, lower, _ = kernels(made.read()).axes
    shown = upper.get_images()[0].get_array()
    np.testing.assert_allclose(shown[:5, :5, :3] * 255, colour[0])
    assert shown[5, 0, 3] == 0
    np.testing.assert_array_equal(sheet(lower)[:3, :3], grey[0])


def test_weight_matrices_have_a_row_each(build):
    """Matrices of any proportions, a pair and a change each, are all drawn."""
    made = build()
    for name, shape in (("wide", (1, 10, 64)), ("tall", (1, 64, 2)), ("even", (1, 64, 64))):
        for step in (0, 9):
            picture(made, step, "weights", noise(step, *shape), name=name)
            picture(made, step, "weights_change", noise(step, *shape), name=name)
    figure = weight_maps(made.read())
    assert len(figure.axes) == 3 * 3 + 1
    figure.draw_without_rendering()


def test_feature_maps_stand_beside_the_input_of_the_same_step(build):
    """Each row holds the example and its maps, of the first and the last picture step."""
    made = build()
    images = {step: (noise(step, 1, 12, 12), noise(step + 1, 8, 6, 6)) for step in (0, 5, 20)}
    for step, (example, maps) in images.items():
        picture(made, step, "input", example, name="")
        picture(made, step, "feature_maps", maps)
    axes = feature_maps(made.read()).axes
    assert [a.get_title("left") for a in axes] == ["input", "conv"] * 2
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


@pytest.mark.parametrize("draw", [feature_maps, kernels, weight_maps])
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
