"""Where a loader stands, in a few hundred bytes.

The state tells the order of the epoch (by its seed, not its indices) and how much of it the
training loop has had. It does not depend on the number of workers, on what they have loaded ahead,
or on the number of ranks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lampwork._core.errors import InputError

FORMAT = 1


@dataclass
class Position:
    """How far the training loop has come in one epoch.

    Attributes:
        seed: torch's `base_seed` of the epoch.
        batches: handed over in this epoch, also before it was resumed.
        taken: the samples of the order, over all ranks, that they used up.
        order: what makes the same order again; None before the first epoch.
        finished: whether the loop was told that there is no more.
        streams: by worker, the state of an `IterableDataset` after its last batch handed over.
        workers: how many share the samples of an `IterableDataset`; None of any other.
        turn: whose stream gives the batch after this one.
        length: of the dataset, None where it has none.
    """

    seed: int = 0
    batches: int = 0
    taken: int = 0
    order: Mapping[str, Any] | None = None
    finished: bool = False
    streams: dict[int, Any] = field(default_factory=dict)
    workers: int | None = None
    turn: int = 0
    length: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """For `torch.save`, pickle, JSON (unless there are streams) and distributed checkpoints.

        The last load only what a fresh loader has a key for, and take dicts apart: so the keys are
        always the same, and what they stand for is one text.
        """
        told: dict[str, Any] = {"lampwork": FORMAT, "position": "", "streams": None}
        if self.order is None or self.finished:
            return told
        plain = {name: getattr(self, name) for name in _PLAIN}
        told["position"] = json.dumps(plain | {"order": dict(self.order)}, separators=(",", ":"))
        if self.streams:
            told["streams"] = dict(self.streams)
        return told

    @classmethod
    def from_dict(cls, state: Any) -> Position | None:
        """What `to_dict` told; None where the next epoch is a whole one.

        Raises:
            InputError: it is no state of a lampwork loader.
        """
        if not isinstance(state, Mapping) or "lampwork" not in state:
            raise InputError(
                f"this is no state of a lampwork loader but {_described(state)}: pass what "
                "loader.state_dict() returned"
            )
        if state["lampwork"] != FORMAT:
            raise InputError(
                f"the state has format {state['lampwork']}, this version reads {FORMAT}: load it "
                "with the version of lampwork that saved it"
            )
        if not state.get("position"):
            return None
        return cls(**json.loads(state["position"]), streams=dict(state.get("streams") or {}))


_PLAIN = ("seed", "batches", "taken", "workers", "turn", "length")


class _Order(Protocol):
    def state(self, *, batches: int, taken: int) -> dict[str, Any]: ...


class Progress:
    """The pass that a loader is on, or made last: where it stands, in which order."""

    def __init__(self, position: Position, order: _Order) -> None:
        self._position = position
        self._order = order

    def to_dict(self) -> dict[str, Any]:
        """As `Position.to_dict`, for this moment."""
        position = self._position
        position.order = self._order.state(batches=position.batches, taken=position.taken)
        return position.to_dict()


def _described(state: Any) -> str:
    if not isinstance(state, Mapping):
        return f"of type {type(state).__name__}"
    if any(str(key).startswith("_") and "snapshot" in str(key) for key in state):
        return "one of torchdata's StatefulDataLoader"
    return f"a dict with the keys {sorted(map(str, state))[:5]}"
