"""`lampwork view`: the live page, on loopback."""

from __future__ import annotations

from typing import Annotated

import typer


def view(
    directory: Annotated[str, typer.Option("--dir", help="The folder with the runs.")] = "runs",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="By default 8265, or a free one.", show_default=False),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
) -> None:
    """Show all runs in a live page on this machine alone; Ctrl-C ends it."""
    from lampwork.view.server import serve

    def ready(address: str) -> None:
        typer.echo(f"lampwork view: {address} shows {directory!r}; Ctrl-C ends it")
        if browser:
            _open(address)

    try:
        serve(directory, port, ready)
    except KeyboardInterrupt:
        pass  # asked for, and everything is closed


def _open(address: str) -> None:
    """Open the browser from a thread: some browsers return only when they are closed.

    How it ends: with the browser's start, or with this process, whose daemon it is.
    """
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
