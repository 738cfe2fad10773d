"""`lampwork explain`: what a code means, in the terminal."""

from __future__ import annotations

from pathlib import Path

from lampwork.diagnose.pages import page, pages
from tests.cli.scripts import lampwork


def test_the_page_of_a_code_is_printed(tmp_path: Path):
    """In a pipe it is the Markdown of `docs/findings/`."""
    done = lampwork(tmp_path, "explain", "grad-accumulating")
    assert (done.code, done.out) == (0, page("grad-accumulating").markdown())


def test_all_codes_are_listed(tmp_path: Path):
    """Each code stands with its meaning, one a line."""
    done = lampwork(tmp_path, "explain")
    assert done.code == 0
    lines = [line.split(maxsplit=1) for line in done.out.splitlines()[1:-2]]
    assert [code for code, _ in lines] == list(pages())
    assert [told.strip() for _, told in lines] == [one.meaning for one in pages().values()]


def test_an_unknown_code_is_a_usage_error(tmp_path: Path):
    """It ends with 2 and the codes that come near."""
    done = lampwork(tmp_path, "explain", "act-ded")
    assert done.code == 2
    assert "did you mean act-dead" in done.err
