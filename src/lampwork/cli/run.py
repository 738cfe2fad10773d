"""`lampwork run`: a script that never heard of us, watched; all its own stays its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lampwork._core import ranks
from lampwork._core.errors import LampworkError

if TYPE_CHECKING:
    from lampwork.watching.launcher import Launcher


def run(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="SCRIPT [ARGS]", help="As after `python`.")
    ] = None,
    as_module: Annotated[
        bool, typer.Option("-m", "--module", help="SCRIPT is the name of a module.")
    ] = False,
    directory: Annotated[str, typer.Option("--dir", help="The folder for runs.")] = "runs",
    name: Annotated[str | None, typer.Option(help="Name of the run, by default the time.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Record every so many steps.")] = 10,
    loader: Annotated[
        bool,
        typer.Option("--loader/--no-loader", help="Use lampwork's DataLoader in torch's place."),
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing of our own.")] = False,
) -> None:
    """Train with an unchanged script, and end with the verdict.

    The script's output, exit code, signals and exceptions are its own; what lampwork prints goes
    to stderr.
    """
    from lampwork.cli.script import Script

    if not command:
        raise typer.BadParameter("nothing to run: name a script, or a module with -m")
    if not as_module and not Path(command[0]).is_file():
        raise typer.BadParameter(f"there is no file {command[0]!r} to run")
    Script(command, as_module=as_module).run(_Watching(directory, name, every, loader, quiet))


class _Watching:
    """What goes on around the script: from its import of torch to the verdict."""

    def __init__(self, directory: str, name: str | None, every: int, loader: bool, quiet: bool):
        self._options = (directory, name, every)
        self._swap_loader = loader
        self._say = _silence if quiet else _say
        self._launcher: Launcher | None = None

    def __enter__(self) -> None:
        from lampwork.cli.after_import import after_import

        # Not before the script imports it: a script may set OMP_NUM_THREADS and the like first.
        after_import("torch", self._begin)

    def __exit__(self, *_: object) -> None:
        try:
            if self._launcher is not None:
                self._launcher.close()
            self._tell()
        except LampworkError as error:
            self._say(f"no verdict: {error}")
        except Exception as error:  # the script's own end, its exit code above all, comes first
            self._say(f"no verdict because of an error in lampwork: {error!r}")

    def _begin(self) -> None:
        from lampwork.watching.launcher import Launcher

        self._launcher = Launcher(*self._options, self._say)
        self._launcher.install()
        if self._swap_loader:
            import torch.utils.data.dataloader

            from lampwork.data.loader import DataLoader

            # Under both of its names, so that `isinstance` holds whichever a script imports.
            torch.utils.data.DataLoader = DataLoader
            torch.utils.data.dataloader.DataLoader = DataLoader

    def _tell(self) -> None:
        launcher = self._launcher
        if ranks.rank() != 0:
            return  # one verdict for all of them
        if launcher is None:
            self._say("torch was not imported, so there was nothing to watch")
        elif not launcher.sessions and launcher.steps:
            steps = (
                "1 optimizer step" if launcher.steps == 1 else f"{launcher.steps} optimizer steps"
            )
            self._say(f"{steps}, but no model was watched{_why_not()}")
        elif not launcher.sessions:
            self._say("no optimizer.step() was seen, so there was nothing to watch")
        else:
            self._tell_verdicts(launcher)

    def _tell_verdicts(self, launcher: Launcher) -> None:
        from lampwork.diagnose.verdict import diagnose
        from lampwork.record import runs
        from lampwork.record.reader import Record
        from lampwork.view.terminal import verdict_line

        several = len(launcher.sessions) > 1
        for session in launcher.sessions:
            assert session.path is not None
            record = Record(session.path)
            model = f"{record.meta['model']} in {session.path.name}: " if several else ""
            self._say(model + verdict_line(record, diagnose(record)))
            self._say(f"more: lampwork report {runs.shown(session.path)}")


def _why_not() -> str:
    from lampwork.taps.select import anything_compiled

    if not anything_compiled():
        return ""
    return ": a model is found when it is called, and compiled functions hide that. Compile the \
model in place of the function that calls it: model = torch.compile(model)"


def _silence(text: str) -> None:
    pass


def _say(text: str) -> None:
    typer.echo(f"lampwork: {text}", err=True)
