"""From rows by key to rows by id: what was measured in one step, ready to be written.

Ids are given in the order of first sight. A tensor is announced before its first row, and again
when more is known of it (a second optimizer that turns out to own a parameter).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

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
        self._announced: dict[Key, Seen] = {}
        self._silent: dict[Key, NDArray[np.int32]] = {}
        self._counted: dict[Key, int] = {}
        self._keys: list[
            Key
        ] = []  # of the last table, their ids, and the places of those with units
        self._ids: NDArray[np.int64] | None = np.zeros(0, np.int64)
        self._places: dict[Key, int] = {}

    def count_silent(self, alive: Iterable[tuple[Key, NDArray[np.bool_]]]) -> None:
        """Note which channels of each output (bool, shape (channels,)) were alive in this step.

        Keys repeat over micro-batches; whatever spoke in one of them is alive.
        """
        step: dict[Key, NDArray[np.bool_]] = {}
        for key, channels in alive:
            same = key in step and step[key].shape == channels.shape
            step[key] = step[key] | channels if same else channels
        for key, channels in step.items():
            before = self._silent.get(key)
            if before is None or before.shape != channels.shape:
                before = self._silent[key] = np.zeros(channels.shape, np.int32)
                self._counted[key] = 0
            before += 1
            before[channels] = 0
            self._counted[key] += 1

    def announce(self, seen: dict[Key, Seen], writer: Writer) -> None:
        """Tell the writer about tensors that are new, or of which more is known."""
        if seen == self._announced:  # as at nearly every step
            return
        self._announced = dict(seen)
        for key, description in seen.items():
            number, known = self._known.get(key, (len(self._known), None))
            if known is not description and known != description:
                self._known[key] = (number, description)
                writer.tensor(Description(number, key.name, key.kind, *key[2:], *description))

    def table(
        self, keys: list[Key], rows: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | dict[int, Row]:
        """As `rows`, with ids of shape (keys,) and the table itself where no key repeats.

        Args:
            keys: of the rows; at most steps those of the step before, whose ids are known.
            rows: shape (keys, WIDTH), which is changed.
        """
        if keys != self._keys:
            self._keys, self._ids = keys, None
            self._places = {key: place for place, key in enumerate(keys)}
            if len(self._places) == len(keys):
                self._ids = np.array([self._known[key][0] for key in keys], np.int64)
        if self._ids is None:
            return self.rows(zip(keys, rows, strict=True))
        for key in self._silent:
            if key in self._places:
                self._tell_silent(key, rows[self._places[key]])
        return self._ids, rows

    def rows(self, measured: Iterable[tuple[Key, Row]]) -> dict[int, Row]:
        """Rows by id, merged over micro-batches."""
        merged: dict[Key, Row] = {}
        for key, row in measured:
            merged[key] = merge(merged[key], row) if key in merged else row
        for key in self._silent:
            if key in merged:
                self._tell_silent(key, merged[key])
        return {self._known[key][0]: row for key, row in merged.items()}

    def _tell_silent(self, key: Key, row: Row) -> None:
        silent = self._silent[key]
        enough = min(DEAD_AFTER, self._counted[key])
        row[COLUMN["units"]] = silent.size
        row[COLUMN["dead"]] = np.count_nonzero(silent >= enough)
