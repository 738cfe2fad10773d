"""`lampwork runs`: what has been recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def runs(
    directory: Annotated[str, typer.Option("--dir", help="The folder with the runs.")] = "runs",
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List recorded runs, oldest first, with their verdicts. To delete one, delete its folder."""
    from lampwork.record.runs import list_runs

    found = [_told(path) for path in list_runs(directory)]
    if as_json:
        import json

        typer.echo(json.dumps({"schema": 1, "runs": found}, indent=1, allow_nan=False))
    elif found:
        from rich.console import Console

        Console().print(_table(found))
    else:
        typer.echo(f"no runs in {directory!r}: record one with `lampwork run SCRIPT`")


def _told(path: Path) -> dict[str, Any]:
    """One run as JSON; what cannot be read is told as such and hides no other."""
    from dataclasses import asdict

    from lampwork._core.errors import RecordError
    from lampwork.diagnose.verdict import diagnose, verdict
    from lampwork.record.listing import read_listed
    from lampwork.record.reader import Record

    try:
        listed = asdict(read_listed(path))
        listed["verdict"] = listed["verdict"] or verdict(diagnose(Record(path)))
    except (RecordError, OSError) as error:  # its folder may be deleted meanwhile
        return {"run": path.name, "path": str(path), "error": str(error)}
    return {"run": path.name, **listed, "path": str(path)}


def _table(found: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table("run", "started", "model", box=None, pad_edge=False)
    table.add_column("steps", justify="right")
    table.add_column("size", justify="right")
    table.add_column("verdict")
    for run in found:
        if "error" in run:
            table.add_row(run["run"], "", "", "", "", f"unreadable: {run['error']}")
            continue
        steps = str(run["steps"]) + ("" if run["finished"] else "…")
        facts = (run["started"], run["model"], steps, f"{run['size_bytes'] / 1e6:.1f} MB")
        table.add_row(run["run"], *facts, run["verdict"])
    return table
