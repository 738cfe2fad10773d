"""Running a script as `python SCRIPT` would, in this process.

The script finds its own `__main__`, `sys.argv`, `sys.path[0]` and `__file__`; what it prints, how
it exits and what it raises reaches the caller as without us. Processes that it starts with
`multiprocessing` run the script alone.
"""

from __future__ import annotations

import atexit
import builtins
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from lampwork.cli.plain_traceback import strip


class Script:
    """A script or a module that is to be run once.

    Args:
        argv: what is to become `sys.argv`: the script and its arguments.
        as_module: the script is the dotted name of a module, as after `python -m`.
    """

    def __init__(self, argv: Sequence[str], *, as_module: bool = False) -> None:
        self._argv, self._as_module = list(argv), as_module
        self._interrupted = False

    def run(self, around: AbstractContextManager[object]) -> None:
        """Run it inside `around`; returns only if it ends without an exit code of its own.

        Raises:
            SystemExit: the script's own, or 1 after an exception, which is printed.
        """
        sys.argv[:] = self._argv
        # Exit handlers run last in, first out: this one comes after all of the script's.
        atexit.register(self._end_as_interrupted)
        failed: BaseException | None = None
        with around:
            try:
                self._execute()
            except SystemExit:
                raise
            except BaseException as error:
                failed = error
                _print(error)
        self._interrupted = isinstance(failed, KeyboardInterrupt)
        if failed is not None:
            sys.exit(1)

    def _execute(self) -> None:
        if self._as_module:
            sys.path[0] = os.getcwd()
            runpy.run_module(self._argv[0], run_name="__main__", alter_sys=True)
            return
        path = os.path.abspath(self._argv[0])
        sys.path[0] = os.path.dirname(os.path.realpath(path))
        main = ModuleType("__main__")
        main.__dict__.update(
            __file__=path,
            __builtins__=builtins,
            __cached__=None,
            __loader__=SourceFileLoader("__main__", path),
        )
        if sys.version_info < (3, 14):  # later versions make it when it is asked for
            main.__annotations__ = {}
        # For good, not only while it runs: what the script leaves behind (threads, exit
        # handlers, pickles) looks its classes up here.
        sys.modules["__main__"] = main
        exec(compile(Path(path).read_bytes(), path, "exec"), main.__dict__)

    def _end_as_interrupted(self) -> None:
        # As the interpreter does: a shell that started us is to see the signal, not a number.
        if self._interrupted:
            sys.stdout.flush()
            sys.stderr.flush()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)


def _print(error: BaseException) -> None:
    """Print the traceback as the interpreter would have done without us."""
    strip(error)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    sys.excepthook(type(error), error, error.__traceback__)
