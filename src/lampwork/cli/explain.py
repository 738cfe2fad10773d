"""`lampwork explain`: the page of a code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lampwork.diagnose.pages import Page


def explain(
    code: Annotated[
        str | None, typer.Argument(help="Of a finding, e.g. act-dead; without it all are listed.")
    ] = None,
) -> None:
    """Tell what a finding means, how it is found, where it may be wrong, and the cure."""
    from rich.console import Console
    from rich.markdown import Markdown

    from lampwork.diagnose import pages

    if code is None:
        _list(pages.pages().values())
        return
    text = pages.page(code).markdown()
    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        typer.echo(text, nl=False)


def _list(found: Iterable[Page]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("code", "meaning", box=None, pad_edge=False)
    for page in found:
        table.add_row(page.code, page.meaning)
    console = Console()
    console.print(table)
    console.print("\n`lampwork explain CODE` tells how it is found, its limits, and the cure")
