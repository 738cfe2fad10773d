"""`lampwork runs`: what has been recorded."""

from __future__ import annotations

from typing import Annotated

import typer


def runs(
    directory: Annotated[str, typer.Option("--dir", help="The folder with the runs.")] = "runs",
) -> None:
    """List recorded runs, oldest first, with their verdicts."""
    from rich.console import Console
    from rich.table import Table

    from lampwork._core.errors import RecordError
    from lampwork.diagnose.verdict import diagnose, verdict
    from lampwork.record.reader import Record
    from lampwork.record.runs import list_runs

    table = Table("run", "started", "model", "steps", "verdict", box=None, pad_edge=False)
    for path in list_runs(directory):
        try:
            record = Record(path)
        except RecordError as error:
            table.add_row(path.name, "", "", "", f"unreadable: {error}")
            continue
        steps = record.meta.get("steps", f"{record.steps[-1] + 1}…" if len(record.steps) else "0")
        facts = (record.meta.get("started", ""), record.meta.get("model", ""), str(steps))
        table.add_row(path.name, *facts, verdict(diagnose(record)))
    if table.row_count:
        Console().print(table)
    else:
        typer.echo(f"no runs in {directory!r}: record one with `lampwork run SCRIPT`")
