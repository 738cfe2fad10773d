"""From rows by key to rows by id: what was measured in one step, ready to be written.

Ids are given in the order of first sight. A tensor is announced before its first row, and again
when more is known of it (a second optimizer that turns out to own a parameter).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lampwork._core.summary import COLUMN, Row, merge
from lampwork.record.schema import Tensor as Description
from lampwork.record.writer import Writer
from lampwork.watching.activations import Key, Seen

DEAD_AFTER = 5
"""A channel counts as dead once it was zero in this many recorded steps in a row."""


class Ledger:
    """The tensors of one run, and how long each of their channels has been silent."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[int, Seen]] = {}
        self._silent: dict[Key, Tensor] = {}
        self._counted: dict[Key, int] = {}

    def count_silent(self, alive: dict[Key, Tensor]) -> None:
        """Note which channels of each output (bool, shape (channels,)) were alive in this step."""
        for key, channels in alive.items():
            before = self._silent.get(key)
            if before is None or before.shape != channels.shape:
                before = torch.zeros_like(channels, dtype=torch.int32)
                self._counted[key] = 0
            self._silent[key] = torch.where(channels, 0, before + 1)
            self._counted[key] += 1

    def announce(self, seen: dict[Key, Seen], writer: Writer) -> None:
        """Tell the writer about tensors that are new, or of which more is known."""
        for key, description in seen.items():
            number, known = self._known.get(key, (len(self._known), None))
            if known != description:
                self._known[key] = (number, description)
                writer.tensor(Description(number, key.name, key.kind, *key[2:], *description))

    def rows(self, measured: list[tuple[Key, Tensor]]) -> dict[int, Row]:
        """Rows by id, merged over micro-batches, after one transfer per device."""
        merged = _to_cpu(measured)
        for key, silent in self._silent.items():
            if key in merged:
                enough = min(DEAD_AFTER, self._counted[key])
                merged[key][COLUMN["units"]] = silent.numel()
                merged[key][COLUMN["dead"]] = int((silent >= enough).sum())
        return {self._known[key][0]: row for key, row in merged.items()}


def _to_cpu(measured: list[tuple[Key, Tensor]]) -> dict[Key, Row]:
    merged: dict[Key, Row] = {}
    for device in dict.fromkeys(row.device for _, row in measured):
        here = [(key, row) for key, row in measured if row.device == device]
        table = torch.stack([row for _, row in here]).cpu().numpy()
        for (key, _), row in zip(here, table, strict=True):
            merged[key] = merge(merged[key], row) if key in merged else row.copy()
    return merged
