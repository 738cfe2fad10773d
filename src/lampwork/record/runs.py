"""Run folders: `DIR/NAME/` with `rank0.sqlite` and, when finished, `report.json`."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from lampwork._core import ranks
from lampwork._core.errors import InputError, RecordError
from lampwork._core.names import nearest


def create(directory: str | os.PathLike[str], name: str | None = None) -> Path:
    """Make the folder of a new run and prove that it can be written.

    A name that is taken gets `-2`, `-3`, … appended: what a former run left is never touched.
    Under `torchrun` all ranks share one folder, so there a folder of that name is joined, unless
    its run has ended or this rank has a record in it already.

    Raises:
        RecordError: the folder cannot be made or written.
        InputError: a name that is not one plain folder name.
    """
    if name is not None and (name in ("", ".", "..") or Path(name).name != name or "\0" in name):
        raise InputError(f"name={name!r} is not a plain folder name: leave out slashes and dots")
    several = ranks.world_size() > 1
    base = name or _default_name(shared=several)
    try:
        for number in range(1, 10_000):
            path = Path(directory) / (base if number == 1 else f"{base}-{number}")
            try:
                path.mkdir(parents=True, exist_ok=several)
            except FileExistsError:
                if path.parent.is_dir():
                    continue
                raise
            if database(path).exists() or (path / "report.json").exists():
                continue
            probe = path / f".write-probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
            return path
    except OSError as error:
        raise RecordError(
            f"cannot write a run folder in {os.fspath(directory)!r}: {error.strerror or error}. "
            "Choose a folder that you may write, with dir=… or --dir"
        ) from error
    raise RecordError(f"10,000 runs are called {base!r} in {os.fspath(directory)!r}: name it anew")


def database(run: Path, rank: int | None = None) -> Path:
    """The record file of one rank of a run."""
    return run / f"rank{ranks.rank() if rank is None else rank}.sqlite"


def databases(run: Path, rank: int | None = None) -> list[Path]:
    """The record files of all ranks of a run in their order, or that of one rank.

    Raises:
        RecordError: that rank has no file.
    """
    numbers = sorted(
        int(number)
        for file in run.glob("rank*.sqlite")
        if (number := file.stem.removeprefix("rank")).isdecimal()
    )
    if rank is not None and rank not in numbers:
        raise RecordError(f"{str(run)!r} has no record of rank {rank}, but of {numbers}")
    return [database(run, number) for number in (numbers if rank is None else [rank])]


def shown(run: Path) -> str:
    """The path of a run as one would write it in the working directory."""
    here = Path.cwd()
    return str(run.relative_to(here) if run.is_relative_to(here) else run)


def list_runs(directory: str | os.PathLike[str]) -> list[Path]:
    """The run folders in `directory`, oldest first; empty where there is no such folder."""
    found = Path(directory).glob("*/rank0.sqlite")
    return [file.parent for file in sorted(found, key=lambda file: file.stat().st_mtime)]


def find(run: str | os.PathLike[str], directory: str | os.PathLike[str] = "runs") -> Path:
    """The folder meant by `run`: a path to it, to a record file in it, or a name in `directory`.

    Raises:
        RecordError: there is no record; lists the nearest names.
    """
    path = Path(run)
    for folder in (path, path.parent if path.suffix == ".sqlite" else path, Path(directory) / path):
        if database(folder, 0).is_file():
            return folder
    known = [folder.name for folder in list_runs(path.parent if path.parent.name else directory)]
    near = nearest(path.name, known) or known[-3:]
    cure = "there are " + ", ".join(near) if near else "record one with `lampwork run SCRIPT`"
    raise RecordError(f"no record of a run at {os.fspath(run)!r} (no rank0.sqlite): {cure}")


def _default_name(*, shared: bool) -> str:
    # Ranks start within seconds of one another; what they surely share is their launcher.
    if shared:
        return f"{datetime.date.today():%Y%m%d}-{os.getppid()}"
    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
