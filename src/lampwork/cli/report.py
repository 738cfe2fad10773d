"""`lampwork report`: the verdict on a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[str, typer.Argument(help="Folder of the run, e.g. runs/NAME, or its name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
    strict: Annotated[bool, typer.Option(help="Exit with 3 when the verdict is fail.")] = False,
    directory: Annotated[
        str, typer.Option("--dir", help="Where runs are looked up by name.")
    ] = "runs",
) -> None:
    """Print the verdict: what is wrong, where, the evidence, what to do."""
    from lampwork.diagnose.verdict import diagnose, verdict
    from lampwork.record.reader import Record

    record = Record(run, directory)
    findings = diagnose(record)
    if html is not None:
        from lampwork.view.report import write_html

        typer.echo(write_html(record, findings, html), err=as_json)
    if as_json:
        import json

        from lampwork.diagnose.verdict import report as as_dict

        typer.echo(json.dumps(as_dict(record, findings), indent=1, allow_nan=False))
    elif html is None:
        from rich.console import Console

        from lampwork.view.terminal import print_report

        print_report(record, findings, Console())
    if strict and verdict(findings) == "fail":
        raise typer.Exit(3)
