"""Figures of where a model looks."""

import numpy as np
import pytest

from lampwork.view.gaze import attention, grad_cam, overlay


def picture(made, step, kind, pixels, name="layer"):
    """Record one picture."""
    made.writer.picture(step, name, kind, pixels.shape, pixels.tobytes())


def noise(seed, *shape):
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_attention_has_a_row_per_layer_and_a_column_per_head(build):
    """Shown is the last step, pixel by pixel; a layer of fewer heads leaves room."""
    made = build()
    last = {"a": noise(1, 4, 6, 6), "b": noise(2, 2, 5, 9)}
    for step, maps in ((0, {"a": noise(0, 4, 6, 6)}), (8, last)):
        for name, pixels in maps.items():
            picture(made, step, "attention", pixels, name)
    figure = attention(made.read())
    assert "step 8" in figure.get_suptitle()
    axes = np.reshape(figure.axes, (2, 4))
    assert [a.get_title("left") for a in axes[0]] == [f"head {i}" for i in (1, 2, 3, 4)]
    for row, pixels in zip(axes, last.values(), strict=True):
        for one, expected in zip(row, pixels, strict=False):
            np.testing.assert_array_equal(one.get_images()[0].get_array(), expected)
    assert [len(a.get_images()) for a in axes[1]] == [1, 1, 0, 0]
    figure.draw_without_rendering()


def test_grad_cam_shows_the_input_then_first_last_and_saliency(build):
    """A row per example; the maps of the first and the last step lie over the example."""
    made = build()
    image = noise(0, 3, 8, 8, 3)
    cams = {step: noise(step, 3, 8, 8) for step in (0, 4, 20)}
    for step, cam in cams.items():
        picture(made, step, "input", image)
        picture(made, step, "grad_cam", cam)
        picture(made, step, "saliency", cam)
    figure = grad_cam(made.read())
    axes = np.reshape(figure.axes, (3, 4))
    titles = [a.get_title("left") for a in axes[0]]
    assert titles == ["input", "Grad-CAM, step 0", "Grad-CAM, step 20", "saliency, step 20"]
    shown = axes[1][2].get_images()[0].get_array()
    np.testing.assert_allclose(shown[..., :3] * 255, overlay(image[1], cams[20][1]))


def test_cold_places_show_the_image_and_hot_ones_the_colour():
    """Where there is no heat the image stands in grey; where all is, a warm colour outweighs it."""
    image, heat = np.full((1, 2), 100, np.uint8), np.array([[0, 255]], np.uint8)
    cold, hot = overlay(image, heat)[0]
    np.testing.assert_allclose(cold, [80, 80, 80])
    assert hot[0] > hot[2] + 100
    np.testing.assert_array_equal(overlay(image, None)[0, 0], [100, 100, 100])


@pytest.mark.parametrize("draw", [attention, grad_cam])
def test_without_their_pictures_there_is_no_figure(build, draw):
    """A model that has no attention and no class has neither figure."""
    made = build()
    picture(made, 0, "input", noise(0, 1, 4, 4))
    assert draw(made.read()) is None
