"""Who am I among ranks: the only place that reads RANK and WORLD_SIZE."""

from __future__ import annotations

import os


def rank() -> int:
    """This process's rank under `torchrun`, 0 without it."""
    return _number("RANK", 0)


def world_size() -> int:
    """How many ranks there are, 1 without `torchrun`."""
    return _number("WORLD_SIZE", 1)


def _number(variable: str, default: int) -> int:
    try:
        return int(os.environ.get(variable, default))
    except ValueError:
        return default
