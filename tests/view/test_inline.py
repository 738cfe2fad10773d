from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from lampwork.view.inline import svg
from lampwork.view.palette import INK, house_style


def figure(title="title"):
    """A line, an image and a title."""
    with house_style():
        made = Figure(layout="constrained")
        axes = made.add_subplot()
        axes.plot([1, 2, 3], color=INK)
        axes.imshow([[0, 1], [2, 3]], interpolation="none")
        axes.set_title(title)
    return made


def test_the_element_stands_alone():
    """No declaration, metadata, namespace, comment or link is left, and it is well-formed."""
    text = svg(figure(), "one", "what it shows")
    root = ElementTree.fromstring(text)
    assert root.tag == "svg"
    assert root.get("aria-label") == "what it shows"
    assert not re.search(r"https?:|xmlns|<metadata|<style|<!--|<!DOCTYPE|<\?xml", text)


def test_text_stays_text_in_the_pages_colour():
    """Names can be found and copied, and lines of the text's grey follow the page."""
    text = svg(figure("a title"), "one", "")
    assert ">a title</text>" in text
    assert INK not in text
    assert "stroke: currentColor" in text


def test_two_figures_share_no_id():
    """Every reference has its target in the same figure, even if two figures are alike."""
    ids = {}
    for name in ("one", "two"):
        text = svg(figure(), name, "")
        ids[name] = re.findall(r'\sid="([^"]*)"', text)
        used = set(re.findall(r'(?:url\(#|href="#)([^")]*)', text))
        assert len(set(ids[name])) == len(ids[name])
        assert used == set(ids[name])
        assert used
    assert not set(ids["one"]) & set(ids["two"])


def test_the_same_figure_gives_the_same_bytes():
    """Neither the time nor chance is in the file."""
    assert svg(figure(), "one", "") == svg(figure(), "one", "")


@pytest.mark.parametrize(
    "title",
    [
        "<script>alert(1)</script>",
        "$\\alpha",
        "$a_1$ and $b$",
        "a\"b'c&d",
        "https://example.org",
        "层 ☃",
        "--> x",
    ],
)
def test_any_text_is_harmless(title):
    """Markup, dollar signs, links and letters that the font lacks come out as text."""
    text = svg(figure(title), "one", title)
    root = ElementTree.fromstring(text)
    assert title in [node.text for node in root.iter("text")]
    assert root.get("aria-label") == title
    assert "<script" not in text
    assert "https://" not in text
