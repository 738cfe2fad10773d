"""Tensors → their summary rows: by the C kernel where it can read them, else in pure torch.

The kernel reads a CPU tensor once, where it lies, at 0.16 ns a float32 element on one core; a call
costs 2 µs beside. Its row comes as bytes, which cost nothing to keep and travel together. Both give
the same numbers: the sums differ in their last bits, by the order of addition.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lampwork._core.summary import WIDTH, Row
from lampwork._native import stats_torch
from lampwork._native.stats_torch import SAMPLED_ABOVE

try:
    from lampwork._native import _kernels
    from lampwork._native._kernels import same as _  # noqa: F401  an older build has none
except ImportError:  # built without a compiler
    _kernels = None

__all__ = [
    "PLAIN_DTYPES",
    "SAMPLED_ABOVE",
    "Batch",
    "RawRow",
    "alive",
    "read",
    "rows_of",
    "summary_row",
]

RawRow = bytes | Tensor
"""A row as it was measured: the bytes of float64 `(WIDTH,)`, or such a tensor on its device."""

_PLAIN = (Tensor, nn.Parameter)
# The numbers of the enum in stats.c.
_CODES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.int8: 4,
    torch.int16: 5,
    torch.int32: 6,
    torch.int64: 7,
    torch.uint8: 8,
    torch.bool: 8,
    torch.uint16: 9,
    torch.uint32: 10,
    torch.uint64: 11,
}
PLAIN_DTYPES = frozenset(_CODES)
"""Of which the numbers can be read as they stand."""

_FLOATS = 4  # the first so many
# Elements, 80 µs of reading: to share them out costs 2, but on a busy machine the team may be late.
_TEAM_FROM = 1 << 19
# What is done with old values; the numbers of batch.c.
_COMPARED, _KEPT, _PAST_CACHES = 1, 2, 4
_PAST_CACHES_FROM = 1 << 23  # elements all together: 32 MB of float32


def _code(values: Tensor) -> int | None:
    """The element type of a tensor that is nothing but its memory; None for others."""
    if (
        _kernels is None
        or type(values) not in _PLAIN
        or not values.is_cpu
        or values.layout is not torch.strided
        or values.is_nested
        or values.is_neg()
    ):
        return None
    return _CODES.get(values.dtype)


def read(values: Tensor) -> RawRow:
    """The row of a dense real tensor of any shape; nothing is copied, and no device waited for.

    The columns `units` and `dead` are 0: they need to know which dimension holds the channels.
    """
    code = _code(values)
    if code is None and values.is_neg():
        return read(values.detach().resolve_neg())
    # Without an address are tensors without elements, and those of zeros that torch never wrote.
    if code is None or not (address := values.data_ptr()):
        return stats_torch.summary_row(values)
    assert _kernels is not None
    threads = torch.get_num_threads() if values.numel() >= _TEAM_FROM else 1
    return _kernels.summary(address, code, values.shape, values.stride(), threads)


def summary_row(values: Tensor) -> Tensor:
    """As `read`, as a tensor: float64, shape `(WIDTH,)`, on the device of the values."""
    row = read(values)
    # Where it is made is nobody's default device: the memory is ours.
    return torch.from_numpy(np.frombuffer(row).copy()) if isinstance(row, bytes) else row


def rows_of(raw: list[RawRow]) -> Row:
    """Measured rows as one table of shape `(len(raw), WIDTH)`, after one transfer per device."""
    table = np.empty((len(raw), WIDTH))
    here = [i for i, row in enumerate(raw) if isinstance(row, bytes)]
    table[here] = np.frombuffer(b"".join(raw[i] for i in here)).reshape(-1, WIDTH)  # pyright: ignore[reportArgumentType, reportCallIssue]
    far: dict[torch.device, list[int]] = {}
    for i, row in enumerate(raw):
        if isinstance(row, Tensor):
            far.setdefault(row.device, []).append(i)
    for places in far.values():
        table[places] = torch.stack([raw[i] for i in places]).cpu().numpy()  # pyright: ignore[reportArgumentType, reportCallIssue]
    return table


def alive(values: Tensor, dim: int) -> NDArray[np.bool_] | Tensor:
    """Which channels, those along `dim`, have a non-zero element anywhere: bool, (channels,).

    A channel that speaks is left at its first such element, so that little is read of most tensors.
    """
    code = _code(values)
    if code is None or not (address := values.data_ptr()):
        return stats_torch.alive(values, dim)
    assert _kernels is not None
    flags = _kernels.alive(address, code, values.shape, values.stride(), dim)
    return np.frombuffer(flags, dtype=np.bool_)


@dataclass
class Batch:
    """Dense CPU tensors that are read in one call, large ones by several threads.

    The tensors are to stay alive, and unchanged, until `rows` has been called.
    """

    jobs: array[int] = field(default_factory=lambda: array("q"))
    elements: int = 0

    @staticmethod
    def takes(values: Tensor) -> bool:
        """Whether a tensor can be read here: floats without gaps, in CPU memory."""
        code = _code(values)
        return (
            code is not None
            and code < _FLOATS
            and values.data_ptr() != 0
            and (values.is_contiguous() or values.is_contiguous(memory_format=torch.channels_last))
        )

    def add(
        self, values: Tensor, *, old: int = 0, compare: bool = False, keep: bool = False
    ) -> None:
        """Read a tensor that `takes` accepted.

        Args:
            values: what to read.
            old: address of memory that has, or gets, earlier values as they lie.
            compare: read the values minus the old ones; in float32 for half types.
            keep: the old values are then overwritten. With `compare` they get a row of their own,
                behind that of the change.
        """
        count = values.numel()
        what = (_COMPARED if compare else 0) | (_KEPT if keep else 0)
        self.jobs.extend((values.data_ptr(), _CODES[values.dtype], count, old, what))
        self.elements += count

    def rows(self) -> list[bytes]:
        """The rows, in the order of `add`."""
        assert _kernels is not None
        threads = torch.get_num_threads() if self.elements >= _TEAM_FROM else 1
        if self.elements >= _PAST_CACHES_FROM:
            for i in range(4, len(self.jobs), 5):
                # What is compared is in the caches already.
                if self.jobs[i] == _KEPT:
                    self.jobs[i] |= _PAST_CACHES
        table, size = _kernels.summaries(self.jobs, threads), 8 * WIDTH
        return [table[i : i + size] for i in range(0, len(table), size)]

    def same(self) -> list[bool]:
        """Which tensors have the bits of their old values, as far as 256 places of each tell."""
        assert _kernels is not None
        return [flag != 0 for flag in _kernels.same(self.jobs)]
