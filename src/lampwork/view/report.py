"""The whole report as one HTML file: no script, no link to anywhere, two megabytes at most."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from lampwork._core.errors import RecordError
from lampwork.diagnose.finding import Finding
from lampwork.diagnose.verdict import report, verdict
from lampwork.record.reader import Record
from lampwork.view import sections
from lampwork.view.figures import ALL, Illustration
from lampwork.view.inline import svg
from lampwork.view.layers import table
from lampwork.view.palette import WIDTH_IN
from lampwork.view.words import cut, escape

LIMIT_BYTES = 2_000_000

# The page needs nothing from outside; this keeps it so, whatever a record may contain.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a page may show; the next one of `_LESS` when it has become too large."""

    pictures: bool = True
    figures: bool = True
    data: bool = True
    findings: int = 100
    note: str = ""


_TOO_LARGE = "left out to keep this page under 2 MB. `lampwork report RUN --json` has all findings."
_LESS = (
    _Contents(),
    _Contents(pictures=False, note=f"The pictures are {_TOO_LARGE}"),
    _Contents(pictures=False, figures=False, note=f"All figures are {_TOO_LARGE}"),
    _Contents(
        pictures=False, figures=False, data=False, findings=20,
        note=f"All figures, the JSON and most findings are {_TOO_LARGE}",
    ),
)  # fmt: skip


def html(record: Record, findings: Sequence[Finding]) -> str:
    """The report as one self-contained page.

    Args:
        record: the run.
        findings: what is wrong with it, in the order of cause.

    Returns:
        At most `LIMIT_BYTES` of HTML in UTF-8. When there would be more, pictures are left out
        first, and the page says so. The same record gives the same page.
    """
    word = verdict(findings)
    drawn = [(illustration, _drawn(illustration, record)) for illustration in ALL]
    rest = (
        sections.loaders(record.loaders), sections.first_weights(record), _layers(record, findings)
    )  # fmt: skip
    as_json = sections.machine_readable(report(record, findings))
    page = ""
    for contents in _LESS:
        page = _page(
            record,
            word,
            sections.header(record, findings, word),
            "<main>",
            sections.findings_list(findings, contents.findings),
            sections.key_facts(record),
            sections.figures([text for one, text in drawn if _shows(contents, one)], contents.note),
            *rest,
            as_json if contents.data else "",
            "</main>",
        )
        if len(page.encode()) <= LIMIT_BYTES:
            break
    return page


def write_html(record: Record, findings: Sequence[Finding], path: str | os.PathLike[str]) -> Path:
    """Write the report to `path`.

    Returns:
        The path.

    Raises:
        RecordError: the file cannot be written.
    """
    try:
        Path(path).write_text(html(record, findings), encoding="utf-8")
    except OSError as error:
        raise RecordError(
            f"cannot write the report {os.fspath(path)!r}: {error.strerror or error}. "
            "Choose a folder that exists and that you may write"
        ) from error
    return Path(path)


def _drawn(illustration: Illustration, record: Record) -> str:
    """One figure with its caption, empty where the record has nothing for it."""
    name = illustration.name.replace("_", " ")
    try:
        figure = illustration.draw(record)
        if figure is None:
            return ""
        wide = ' class="wide"' if figure.get_figwidth() > WIDTH_IN else ""
        # As a heading of the page it wraps on a narrow screen and is found by screen readers.
        title = figure.get_suptitle().replace("\n", " ")
        figure.suptitle("")
        inner = svg(figure, illustration.name, f"{name}. {illustration.caption}")
    except Exception as error:  # the verdict matters more than a picture that fails
        reason = escape(cut(repr(error)))
        return f'<p class="quiet">The figure “{name}” cannot be drawn: {reason}</p>'
    caption = f"<figcaption>{escape(illustration.caption)}</figcaption>"
    box = sections.scrolling(inner, f"Figure: {name}")
    return f"<figure{wide}><h3>{escape(title)}</h3>{box}{caption}</figure>"


def _layers(record: Record, findings: Sequence[Finding]) -> str:
    step = int(record.steps[-1]) if len(record.steps) else 0
    return sections.layers(table(record), step, findings)


def _page(record: Record, word: str, *parts: str) -> str:
    footer = (
        f"<footer>Written by lampwork {escape(record.meta.get('lampwork', ''))} "
        f"under torch {escape(record.meta.get('torch', '?'))}.</footer>"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(f'{word}: {cut(record.path.name)}')}</title>\n"
        f"<style>\n{_stylesheet()}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in (*parts, footer) if part)
        + "\n</body>\n</html>\n"
    )


def _shows(contents: _Contents, illustration: Illustration) -> bool:
    return contents.pictures if illustration.pixels else contents.figures


def _stylesheet() -> str:
    return files("lampwork.view").joinpath("page.css").read_text(encoding="utf-8")
