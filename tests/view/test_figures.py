from __future__ import annotations

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lampwork.view.figures import ALL
from lampwork.view.inline import svg
from lampwork.view.palette import ALARM, INK, SERIES, between, power_of_ten


def figures(record):
    """Name and figure of all that the record has something for."""
    found = [(one.name, one.draw(record)) for one in ALL]
    return [(name, figure) for name, figure in found if figure is not None]


def wide(build):
    """A record with 60 layers and long names, with zeros and NaN in it."""
    made = build("wide")
    for step in (0, 10, 20, 30, 40, 50):
        for i in range(60):
            name = f"encoder.layers.{i}.self_attention.output_projection"
            values = np.full((3, 4), 10.0**-i) if i % 7 else np.full((3, 4), np.nan)
            made.add("output", name, step, values)
            for kind in ("weight", "grad", "update"):
                made.add(kind, f"{name}.weight", step, values * (i % 5))
        for name in ("training_loss_of_the_first_head", "validation loss", "a/b", "x" * 80):
            made.writer.scalar(step, name, np.nan if step == 20 else 1.0)
    return made.add_pictures().read()


def test_nothing_is_cut_off(build, mlp):
    """Whatever is drawn lies within the figure, with many layers and long names and with few."""
    for record in (wide(build), mlp.add_pictures().read()):
        for name, figure in figures(record):
            figure.draw_without_rendering()
            drawn = figure.get_tightbbox()
            width, height = figure.get_size_inches()
            assert min(drawn.x0, drawn.y0) > -0.02, name
            assert drawn.x1 < width + 0.02, name
            assert drawn.y1 < height + 0.02, name


def test_axes_keep_room_for_the_data(build):
    """Long names and legends leave most of the width and a quarter of the height to a plot."""
    drawn = dict(figures(wide(build)))
    for name in ("loss", "gradient_flow", "update_ratio", "activation_spread"):
        figure = drawn[name]
        figure.draw_without_rendering()
        boxes = [axes.get_window_extent() for axes in figure.axes]
        assert max(box.width for box in boxes) > 0.7 * figure.bbox.width, name
        assert max(box.height for box in boxes) > 0.25 * figure.bbox.height, name


def test_the_users_style_neither_changes_nor_matters(mlp):
    """Under a user's dark style with TeX the figures are the same, and the style stays his."""
    record = mlp.add_pictures().read()
    plain = [svg(figure, name, "") for name, figure in figures(record)]
    with matplotlib.rc_context({"axes.facecolor": "black", "text.usetex": True, "font.size": 30}):
        before = dict(matplotlib.rcParams)
        styled = [svg(figure, name, "") for name, figure in figures(record)]
        assert dict(matplotlib.rcParams) == before
    assert styled == plain
    assert len(plain) == len(ALL)


@pytest.mark.parametrize("colour", [*SERIES, INK, ALARM, *(between(i / 4) for i in range(5))])
@pytest.mark.parametrize("paper", ["#ffffff", "#15171c"])
def test_colours_stand_out_on_light_and_dark(colour, paper):
    """Every colour has a contrast of 3:1, which WCAG 2.1 asks for graphics, on both papers."""

    def luminance(c):
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(c)]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(colour), luminance(paper)))
    assert (high + 0.05) / (low + 0.05) >= 3


@pytest.mark.parametrize(
    ("value", "text"), [(1e-3, "1e-3"), (0.1, "0.1"), (1, "1"), (100, "100"), (1e24, "1e24")]
)
def test_powers_of_ten_read_like_code(value, text):
    """Ticks are written as one writes them in Python."""
    assert power_of_ten(value) == text


def test_drawing_needs_neither_pyplot_nor_torch(mlp):
    """In a fresh interpreter all figures are drawn without pyplot and without torch."""
    record = mlp.add_pictures().read()
    code = f"""
import sys
from lampwork.record.reader import Record
from lampwork.view.figures import ALL
from lampwork.view.inline import svg
record = Record({str(record.path)!r})
assert all(svg(one.draw(record), one.name, "") for one in ALL)
assert not {{"matplotlib.pyplot", "torch"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
