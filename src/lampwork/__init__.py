"""lampwork feeds a PyTorch model, initialises it, and lets you see inside while it trains.

    import lampwork as lw

    loader = lw.DataLoader(dataset, batch_size=64, shuffle=True)   # as torch's, and it measures
    plan = lw.init.plan(model); plan.apply(seed=0)                 # chosen by layer, printable
    with lw.watch(model) as run: ...                               # train; then `lampwork report`
    with lw.capture(model, "conv*") as seen: ...                   # whole tensors, once

Nothing is imported before it is asked for: `import lampwork` costs next to nothing, and the
command line can print its help without loading torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lampwork import data as data
    from lampwork import init as init
    from lampwork.data.loader import DataLoader as DataLoader
    from lampwork.watching.capture import capture as capture
    from lampwork.watching.extract import extract as extract
    from lampwork.watching.gradients import capture_gradients as capture_gradients
    from lampwork.watching.session import watch as watch

    __version__: str

_PILLARS = ("data", "init")
_HOMES = {
    "DataLoader": "lampwork.data.loader",
    "capture": "lampwork.watching.capture",
    "capture_gradients": "lampwork.watching.gradients",
    "extract": "lampwork.watching.extract",
    "watch": "lampwork.watching.session",
}

__all__ = [
    "DataLoader",
    "__version__",
    "capture",
    "capture_gradients",
    "data",
    "extract",
    "init",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name in _PILLARS:
        return importlib.import_module(f"lampwork.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("lampwork")
    raise AttributeError(f"module 'lampwork' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
