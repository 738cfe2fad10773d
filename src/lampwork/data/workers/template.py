"""Workers under spawn and forkserver without importing torch in each: forked from a template.

The template is a fork server of Python's own that has nothing but torch and this package in it:
no data, no threads, no CUDA. A worker forked from it then does what a spawned one does, imports the
main module included, but starts in milliseconds. One template serves all loaders of a process.
"""

from __future__ import annotations

import io
import multiprocessing
import os
from multiprocessing import context, forkserver, popen_forkserver, process, reduction, spawn, util  # type: ignore[attr-defined]
from typing import Any

PRELOADED = ["torch", "lampwork.data.workers.worker"]


def process_of(own: Any) -> Any:
    """What to start workers with in place of this context's `Process`.

    Only for Python's own spawn and forkserver contexts, and for the latter only where nobody has
    said what its server is to load.
    """
    method = own.get_start_method()
    plain = type(own) in _PLAIN or own is multiprocessing or not isinstance(own, _BASE)
    preloaded = forkserver._forkserver._preload_modules  # type: ignore[attr-defined]
    if method == "fork" or not plain or (method == "forkserver" and preloaded != ["__main__"]):
        return own.Process
    return _Process


def prepare(process_of: Any) -> None:
    """Start the template, if it is what workers will be forked from."""
    if process_of is _Process:
        _server()


_BASE = context.BaseContext
_PLAIN = (context.SpawnContext, context.ForkServerContext, context.DefaultContext)


class _Template:
    """The fork server and what it was started with."""

    def __init__(self) -> None:
        self.server = forkserver.ForkServer()
        self.server.set_forkserver_preload(PRELOADED)
        self.environment = dict(os.environ)
        self.owner = os.getpid()


_latest: _Template | None = None


def _server() -> forkserver.ForkServer:
    """The template's server. A spawned worker would see what the environment says now."""
    global _latest
    stale = _latest is None or _latest.owner != os.getpid()
    if stale or _latest.environment != dict(os.environ):  # type: ignore[union-attr]
        _latest = _Template()
    assert _latest is not None
    _latest.server.ensure_running()
    return _latest.server


class _Popen(popen_forkserver.Popen):
    """Python's way to start a process by a fork server, with ours."""

    def _launch(self, process_obj: Any) -> None:
        server = _server()
        prepared = spawn.get_preparation_data(process_obj._name)
        file = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(prepared, file)
            reduction.dump(process_obj, file)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, write = server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        # Open as long as this object is: by its end the child knows that its parent is gone.
        alive = os.dup(write)
        self.finalizer = util.Finalize(self, _close, (alive, self.sentinel))
        with open(write, "wb", closefd=True) as pipe:
            pipe.write(file.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


class _Process(process.BaseProcess):
    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:  # noqa: N802  multiprocessing's name
        return _Popen(process_obj)
