"""The meters of this process: what measured itself and can be told in a run's record.

A loader and a run know nothing of each other. The loader's meter is entered here when its first
epoch begins; a run that ends tells what those meters show that were active during it.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

KEPT = 64


class Meter(Protocol):
    """Measures one loader.

    Attributes:
        dataset: the name of the dataset's class.
        active_s: when it last measured something, by `clock.monotonic_s`.
    """

    dataset: str

    @property
    def active_s(self) -> float: ...

    def figures(self) -> dict[str, Any]:
        """What it shows, in plain values."""
        ...

    def totals(self) -> tuple[float, int]:
        """Seconds that training has waited for the loader in all its epochs, and samples."""
        ...


# A meter holds a few numbers and nothing of its loader, so the latest ones may outlive theirs: a
# report at the end of a script is to know the loader that its `main()` dropped.
_entered: deque[Any] = deque(maxlen=KEPT)


def enter(meter: Meter) -> None:
    """Let runs know of a meter; idle the second time."""
    if meter not in _entered:
        _entered.append(meter)


def entered(since_s: float = float("-inf")) -> list[Any]:
    """The latest `KEPT` meters in the order in which they came, those active since a moment."""
    return [meter for meter in _entered if meter.active_s >= since_s]
