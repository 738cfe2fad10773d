"""Contenders in processes of their own, asked in turn by the process that compares them.

Some libraries change torch's samplers when they are imported, keep threads running, or fork. In its
own process each meets the others as it would in a training script: not at all. While one works the
others wait for a question.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

PATIENCE_S = 600


class GaveUp(Exception):
    """A contender failed, or did not answer in time; the text says why."""


class Contender:
    """An object in another process.

    Args:
        make: what makes it, with its arguments; has to be picklable.

    Raises:
        GaveUp: it could not be made.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any, patience_s: float = PATIENCE_S):
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._patience_s = patience_s
        # Ends when this side of the pipe is closed, at the latest with this process.
        self._process = spawn.Process(target=_serve, args=(theirs, make, arguments))
        self._process.start()
        theirs.close()
        self._answer("to be made")

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the object's method returns.

        Raises:
            GaveUp: nothing, for this reason.
        """
        self._pipe.send((method, arguments))
        return self._answer(method)

    def close(self) -> None:
        """Let the process end, or end it."""
        self._pipe.close()
        self._process.join(60)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self, asked: str) -> Any:
        try:
            if not self._pipe.poll(self._patience_s):
                raise GaveUp(f"no answer within {self._patience_s:.0f} s ({asked})")
            done, value = self._pipe.recv()
        except (EOFError, OSError):
            raise GaveUp(f"its process died ({asked})") from None
        if not done:
            raise GaveUp(value)
        return value


def _serve(pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    # A spawned process would spawn in turn; a training script starts workers by the default method.
    multiprocessing.set_start_method(None, force=True)
    thing: Any = None
    while True:
        try:
            if thing is None:
                thing, value = make(*arguments), None
            else:
                method, given = pipe.recv()
                value = getattr(thing, method)(*given)
        except (EOFError, KeyboardInterrupt):
            return
        except Exception as error:
            pipe.send((False, f"{type(error).__name__}: {error}".splitlines()[0][:200]))
            if thing is None:
                return
        else:
            pipe.send((True, value))
