"""No worker outlives its trainer, however that ends.

The kernel kills a worker whose parent dies, but by parent it means the thread that started it. So
this is asked for only where that is the trainer's main thread; elsewhere a thread of the worker
waits for the death of the trainer itself.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading

_PR_SET_PDEATHSIG = 1


def started_by_main_thread() -> bool:
    """In the trainer: whether a worker started now is the child of the main thread."""
    return threading.current_thread() is threading.main_thread()


def die_with(trainer: int, *, by_kernel: bool) -> None:
    """In a worker: end when the process with this id does; at once if it has ended already."""
    if by_kernel:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != trainer:  # it died before the kernel was asked
            os._exit(1)
        return
    try:
        alive = os.pidfd_open(trainer)
    except ProcessLookupError:
        os._exit(1)
    threading.Thread(target=_wait_for_end, args=(alive,), daemon=True, name="tether").start()


def _wait_for_end(alive: int) -> None:
    select.select([alive], [], [])
    os._exit(1)
