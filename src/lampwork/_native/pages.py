"""Device memory that the rows of a step are written into, and their way to the CPU.

What is read off a tensor on an accelerator stays there as a place in a page. At the end of the step
the pages are folded and copied into page-locked memory, and whoever wants the numbers asks later
whether they have arrived: the training thread never waits for the device.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lampwork._core.summary import BINS, WIDTH, Row
from lampwork._native.arrival import Arrival
from lampwork._native.stats_torch import SAMPLED_ABOVE

_lock = Lock()  # autograd reads the gradients of each device on a thread of its own


# Where in a page things are, in units of 8 bytes. A row's head: first part, parts, elements. Heads
# and flags are zero in a new page; flags and rows travel to the CPU.
ROWS, PARTS, FLAGS = 512, 16384, 1 << 16
PART, HEAD = 8, 3
COUNTED = 1024  # elements of the sample whose exponents one program counts
COUNTERS = -(-SAMPLED_ABOVE // COUNTED)  # such programs of a row, at most
PARTS_AT = 0
BINS_AT = PARTS_AT + PARTS * PART
HEADS_AT = BINS_AT + ROWS * COUNTERS * BINS
FLAGS_AT = HEADS_AT + ROWS * HEAD
ROWS_AT = FLAGS_AT + FLAGS // 8
PAGE = ROWS_AT + ROWS * WIDTH


class Page:
    """Room for the rows of some hundred tensors, for kernels of one stream.

    Attributes:
        memory: float64, laid out as said above.
        address: of `memory`.
        flags_address: of the part of it that holds one byte for each channel.
        stream: the driver's handle of the stream; 0 also for the CPU.
    """

    def __init__(self, index: int, stream: torch.cuda.Stream | None) -> None:
        device = torch.device("cpu") if stream is None else torch.device("cuda", index)
        self.memory = torch.empty(PAGE, dtype=torch.float64, device=device)
        self.memory[HEADS_AT:ROWS_AT].zero_()
        self.address = self.memory.data_ptr()
        self.flags_address = self.address + 8 * FLAGS_AT
        self.closed = False
        self.stream = 0 if stream is None else stream.cuda_stream
        self._index, self._stream = index, stream
        self._rows = self._parts = self._flags = 0

    def place(self, parts: int, channels: int) -> tuple[int, int, int] | None:
        """The next row, first part and first flag; None where there is no room."""
        full = (
            self.closed
            or self._rows == ROWS
            or self._parts + parts > PARTS
            or self._flags + channels > FLAGS
        )
        if full:
            return None
        place = self._rows, self._parts, self._flags
        self._rows += 1
        self._parts += parts
        self._flags += channels
        return place

    def send(self) -> Arrival:
        """Finish the rows and let them travel, together with the flags."""
        from lampwork._native.stats_cuda import fold  # Triton, only where there is a device

        self.closed = True
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            fold(self._index, self.stream, self._rows, self.address, self.address + 8 * ROWS_AT)
            end = ROWS_AT + self._rows * WIDTH
            return Arrival(self.memory[FLAGS_AT:end])


class FarRow(NamedTuple):
    """A row that is in a page."""

    page: Page
    row: int


class FarFlags(NamedTuple):
    """Which channels are alive, in a page."""

    page: Page
    first: int
    channels: int


_pages: dict[tuple[int, int], Page] = {}


def place(index: int, parts: int, channels: int = 0) -> tuple[Page, int, int, int]:
    """A page of the current stream with the row, first part and first flag in it.

    Args:
        index: of the CUDA device; -1 for the CPU, where Triton's interpreter writes.
        parts: of the tensor that is about to be read.
        channels: of it, whose flags are wanted.
    """
    # The public `current_stream` makes an object, which takes longer than all the rest here.
    key = index, torch._C._cuda_getCurrentRawStream(index) if index >= 0 else 0
    with _lock:
        page = _pages.get(key)
        found = None if page is None else page.place(parts, channels)
        if page is None or found is None:
            page = _pages[key] = _new(index)
            found = page.place(parts, channels)
        assert found is not None
    return page, *found


def _new(index: int) -> Page:
    if index < 0:
        return Page(index, None)
    return Page(index, torch.cuda.current_stream(index))


def release(pages: Collection[Page]) -> None:
    """Let go of pages that were sent, so that their memory goes back to torch."""
    with _lock:
        for key in [key for key, page in _pages.items() if page in pages]:
            del _pages[key]


def rows_in(sent: NDArray[np.float64]) -> Row:
    """The rows in what `Page.send` sent, shape `(rows, WIDTH)`."""
    return sent[FLAGS // 8 :].reshape(-1, WIDTH)


def flags_in(sent: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The flags in what `Page.send` sent, shape `(FLAGS,)`."""
    return sent[: FLAGS // 8].view(np.bool_)
