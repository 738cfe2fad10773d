"""The rows and flags of one step, on their way to the CPU: one transfer for each page or device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lampwork._core.summary import WIDTH, Row
from lampwork._native import pages
from lampwork._native.arrival import Arrival
from lampwork._native.pages import FarFlags, FarRow

RawRow = bytes | Tensor | FarRow
"""A row as it was measured: the bytes of float64 `(WIDTH,)`, such a tensor on its device, or a
place in a page of device memory."""
Flags = NDArray[np.bool_] | Tensor | FarFlags
"""Which channels are alive, bool of shape (channels,): an array, or as a row is."""


class Collected:
    """Measured rows and flags; what lives on a device begins to travel at once.

    Pages that have any of them are closed: what is measured from now on goes into new ones.
    """

    def __init__(self, raw: Sequence[RawRow], flags: Sequence[Flags] = ()) -> None:
        self._raw, self._flags = raw, flags
        far = [item for item in (*raw, *flags) if isinstance(item, FarRow | FarFlags)]
        found = {id(item.page): item.page for item in far}
        pages.release(found.values())
        self._pages = {key: page.send() for key, page in found.items()}
        self._rows_by_device = _together(raw, torch.stack)
        self._flags_by_device = _together(flags, torch.cat)

    @property
    def here(self) -> bool:
        """Whether all have arrived; asked without waiting."""
        others = (*self._rows_by_device, *self._flags_by_device)
        return all(a.here for a in (*self._pages.values(), *(a for a, _ in others)))

    def rows(self) -> Row:
        """The rows as a table of shape `(len(raw), WIDTH)`; waits for what has not arrived."""
        table = np.empty((len(self._raw), WIDTH))
        here = [i for i, row in enumerate(self._raw) if isinstance(row, bytes)]
        table[here] = np.frombuffer(b"".join(self._raw[i] for i in here)).reshape(-1, WIDTH)  # pyright: ignore[reportArgumentType, reportCallIssue]
        sent = {key: pages.rows_in(arrival.array()) for key, arrival in self._pages.items()}
        for i, row in enumerate(self._raw):
            if isinstance(row, FarRow):
                table[i] = sent[id(row.page)][row.row]
        for arrival, places in self._rows_by_device:
            table[places] = arrival.array()
        return table

    def flags(self) -> list[NDArray[np.bool_]]:
        """The flags, in their order; waits for what has not arrived."""
        found: list[NDArray[np.bool_]] = [np.empty(0, np.bool_)] * len(self._flags)
        sent = {key: pages.flags_in(arrival.array()) for key, arrival in self._pages.items()}
        for i, flags in enumerate(self._flags):
            if isinstance(flags, FarFlags):
                found[i] = sent[id(flags.page)][flags.first : flags.first + flags.channels]
            elif not isinstance(flags, Tensor):
                found[i] = flags
        for arrival, places in self._flags_by_device:
            lengths = [len(self._flags[i]) for i in places]  # pyright: ignore[reportArgumentType]
            parts = np.split(arrival.array().astype(np.bool_), np.cumsum(lengths)[:-1])
            for i, part in zip(places, parts, strict=True):
                found[i] = part
        return found


def _together(items: Sequence[object], join) -> list[tuple[Arrival, list[int]]]:
    """The tensors among some things, joined by device, with their places."""
    places: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for i, item in enumerate(items):
        if isinstance(item, Tensor):
            places.setdefault((item.device, item.dtype), []).append(i)
    return [(Arrival(join([items[i] for i in group])), group) for group in places.values()]


def rows_of(raw: Sequence[RawRow]) -> Row:
    """Measured rows as one table of shape `(len(raw), WIDTH)`; waits for those on a device."""
    return Collected(raw).rows()
