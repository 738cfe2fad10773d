"""`lampwork export`: a run's numbers for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[str, typer.Argument(help="Folder of the run, e.g. runs/NAME, or its name.")],
    file: Annotated[Path, typer.Argument(help="The file to write; it ends in .parquet.")],
    directory: Annotated[
        str, typer.Option("--dir", help="Where runs are looked up by name.")
    ] = "runs",
) -> None:
    """Write every statistic and logged number of a run into one Parquet table."""
    from lampwork._core.errors import InputError
    from lampwork.record.export import write_parquet
    from lampwork.record.reader import Record

    if file.suffix != ".parquet":
        raise InputError(f"{str(file)!r} does not end in .parquet, the only kind that is written")
    rows = write_parquet(Record(run, directory), file)
    typer.echo(f"{file}: {rows} rows")
