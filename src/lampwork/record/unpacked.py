"""What was unpacked of late, so that a page that looks again at a stretch does not unpack it again.

To inflate the numbers of a map takes ten times as long as to read them from the file. A page asks
for the same ones with every zoom, every other statistic, and whenever a run has gone on by a few
steps, of which the older chunks know nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_BYTES = 128_000_000
"""All numbers of the largest record, but not its histograms, take 110 MB when unpacked."""


class Unpacked:
    """Arrays by what they were unpacked from; the ones that were not asked for longest go first.

    May be asked from several threads.

    Args:
        most_bytes: all arrays together.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._arrays: OrderedDict[Hashable, Floats] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """What is held."""
        return self._bytes

    def get(self, packed: bytes, what: Hashable, unpack: Callable[[], Floats]) -> Floats:
        """`unpack()`, or what it gave for the same bytes; not to be written to.

        Args:
            packed: as `packing` made them. Their last four are the checksum of what they hold, so
                that a run that was deleted and recorded anew is not taken for the old one.
            what: tells apart what is made of the same bytes, and the places that they came from.
            unpack: makes the array.
        """
        key = (packed[-4:], len(packed), what)
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        made = unpack()
        made.flags.writeable = False
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = made
                self._bytes += made.nbytes
            while self._bytes > self._most:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return made
