"""The list of commands."""

from __future__ import annotations

import typer

from lampwork.cli import demo, explain, export, init, report, run, runs, view

app = typer.Typer(
    name="lampwork",
    help="Feed a PyTorch model, initialise it, and see inside it while it trains.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback of the user's script is the user's; ours are for the issue tracker, whole.
    pretty_exceptions_enable=False,
)

# What comes after SCRIPT belongs to the script, also where it looks like an option of ours.
_PASS_ON = {"allow_interspersed_args": False, "ignore_unknown_options": False}

app.command("demo")(demo.demo)
app.command("run", context_settings=_PASS_ON)(run.run)
app.command("report")(report.report)
app.command("explain")(explain.explain)
app.command("runs")(runs.runs)
app.command("init")(init.init)
app.command("export")(export.export)
app.command("view")(view.view)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as of

        typer.echo(f"lampwork {of('lampwork')}")
        raise typer.Exit
