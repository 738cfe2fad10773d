"""What is known of how a model got its first values, for the record of a run.

`init` and `watching` know nothing of each other: a plan that was carried out or checked is told
here, and a run over that model, or over a wrapper of it, finds it. Only plain values are kept, so
that nothing here keeps a model alive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

_told: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def tell(model: object, **facts: Any) -> None:
    """Let runs know of a model's first values: JSON types by name; None takes a fact back."""
    known = {**_told.get(model, {}), **facts}
    _told[model] = {name: fact for name, fact in known.items() if fact is not None}


def told(modules: Iterable[object]) -> dict[str, Any]:
    """What was told of the first of these of which something was; empty if of none."""
    return next((dict(_told[module]) for module in modules if _told.get(module)), {})
