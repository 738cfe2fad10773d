"""The command line: one file per command; each parses, imports late and calls one function."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `lampwork` command."""
    from lampwork._core.errors import LampworkError
    from lampwork.cli.app import app

    try:
        app()
    except LampworkError as error:
        print(f"lampwork: {error}", file=sys.stderr)
        sys.exit(2)
