"""Tensors → their summary rows: by the C kernel, by Triton on CUDA, else in pure torch.

The C kernel reads a CPU tensor once, where it lies, at 0.16 ns a float32 element on one core; a
call costs 2 µs beside. Its row comes as bytes, which cost nothing to keep and travel together. On
CUDA a row is a place in device memory until `Collected` has brought it here. All three give the
same numbers: the sums differ in their last bits, by the order of addition.
"""

from __future__ import annotations

import logging
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._C import _functorch as functorch  # pyright: ignore[reportAttributeAccessIssue]

from lampwork._core.summary import WIDTH
from lampwork._native import stats_torch
from lampwork._native.collected import Flags, RawRow, rows_of
from lampwork._native.stats_torch import SAMPLED_ABOVE, SIZES

try:
    from lampwork._native import _kernels
    from lampwork._native._kernels import same as _  # noqa: F401  an older build has none
except ImportError:  # built without a compiler
    _kernels = None

__all__ = [
    "PLAIN_DTYPES",
    "SAMPLED_ABOVE",
    "SIZES",
    "Batch",
    "Flags",
    "RawRow",
    "alive",
    "prepare",
    "read",
    "read_plain",
    "read_with_channels",
    "row_with_sizes",
    "rows_of",
    "summary_row",
]

log = logging.getLogger("lampwork")

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
# Elements, 20 µs of reading, 80 where they come from memory: to share them out costs 2 while the
# team is awake. Torch shares out the operations that make them from 2^15 on, so it mostly is.
_TEAM_FROM = 1 << 16
# What is done with old values; the numbers of batch.c.
_COMPARED, _KEPT, _PAST_CACHES = 1, 2, 4
_BOTH = _COMPARED | _KEPT
_PAST_CACHES_FROM = 1 << 23  # elements all together: 32 MB of float32


@cache
def _on(device: torch.device) -> ModuleType | None:
    """What reads tensors on a CUDA device; None where Triton is not installed or cannot build."""
    try:
        from lampwork._native import stats_cuda

        rows_of([stats_cuda.read(torch.zeros(1, device=device))[0]])
    except ImportError:
        return None
    except Exception as error:  # no compiler for its launcher, a device that it does not know
        log.warning("statistics on %s take longer: Triton does not run there (%s)", device, error)
        return None
    return stats_cuda


def prepare(tensors: Iterable[Tensor]) -> None:
    """Have the kernels built that tensors of these types and CUDA devices will need.

    Building takes seconds the first time on a machine, which are not to be part of a step.
    """
    for device, dtype in dict.fromkeys((t.device, t.dtype) for t in tensors if t.is_cuda):
        cuda = _on(device)
        if cuda is None:
            continue
        for kind in dict.fromkeys((dtype, torch.float32, torch.bfloat16)):
            example = torch.zeros(2, 2, dtype=kind, device=device)
            cuda.read(example)
            cuda.read(example, 1)
            cuda.row_with_sizes(example)
            if kind is dtype and cuda.Many.takes(example):
                many, other = cuda.Many(), torch.empty_like(example)
                many.add(example)
                many.add(example, copy_to=other.data_ptr())
                many.add(example, minus=other.data_ptr())
                many.rows()


def _code(values: Tensor) -> int | None:
    """The element type of a tensor that is nothing but its memory; None for others."""
    if (
        _kernels is None
        or type(values) not in _PLAIN
        or not values.is_cpu
        or values.layout is not torch.strided
        or values.is_nested
        or values.is_neg()
        or functorch.is_functorch_wrapped_tensor(values)
    ):
        return None
    return _CODES.get(values.dtype)


def read(values: Tensor) -> RawRow:
    """The row of a dense real tensor of any shape; nothing is copied, and no device waited for.

    The columns `units` and `dead` are 0: they need to know which dimension holds the channels.
    """
    if values.is_cuda and (cuda := _on(values.device)) is not None:
        return cuda.read(_as_it_lies(values))[0]
    here = read_plain(values)
    if here is not None:
        return here[0]
    if values.is_neg():
        return read(values.detach().resolve_neg())
    return stats_torch.summary_row(values)


def _as_it_lies(values: Tensor) -> Tensor:
    return values.detach().resolve_neg() if values.is_neg() else values


def summary_row(values: Tensor) -> Tensor:
    """As `read`, as a tensor: float64, shape `(WIDTH,)`; waits for what is on a device."""
    row = read(values)
    # Where it is made is nobody's default device: the memory is ours.
    return row if isinstance(row, Tensor) else torch.from_numpy(rows_of([row])[0].copy())


def row_with_sizes(values: Tensor) -> Tensor:
    """The row and behind it the tensor's `SIZES` sizes, on its device, for which nobody waits.

    Float64, shape `(WIDTH + SIZES,)`; for dimensions that the tensor does not have the size is -1.
    """
    if values.is_cuda and (cuda := _on(values.device)) is not None:
        return cuda.row_with_sizes(_as_it_lies(values))
    here = read_plain(values)
    if here is None:
        return stats_torch.row_with_sizes(values)
    sizes = struct.pack(f"{SIZES}d", *values.shape, *[-1.0] * (SIZES - values.dim()))
    return torch.frombuffer(bytearray(here[0] + sizes), dtype=torch.float64)  # pyright: ignore[reportOperatorIssue]


def read_with_channels(values: Tensor, dim: int) -> tuple[RawRow, Flags]:
    """The row, and which channels along `dim` are alive; on CUDA by one launch."""
    if values.is_cuda and (cuda := _on(values.device)) is not None:
        row, flags = cuda.read(_as_it_lies(values), dim)
        return row, alive(values, dim) if flags is None else flags
    return read_plain(values, dim) or (read(values), alive(values, dim))


def read_plain(values: Tensor, dim: int = -1) -> tuple[RawRow, Any] | None:
    """What nearly every tensor on the CPU is read by: one question what it is, and one call.

    None of a tensor that is more than its memory, of no element type that the kernel knows, or
    without an address: those without elements, and zeros that torch never wrote.

    Args:
        values: any tensor.
        dim: along which to look for channels that are alive; -1 where there are none, whose flags
            are then None.
    """
    code = _code(values)
    if code is None or not (address := values.data_ptr()):
        return None
    assert _kernels is not None
    threads = torch.get_num_threads() if values.numel() >= _TEAM_FROM else 1
    row, flags = _kernels.summary(address, code, values.shape, values.stride(), threads, dim)
    return row, None if flags is None else np.frombuffer(flags, np.bool_)


def alive(values: Tensor, dim: int) -> NDArray[np.bool_] | Tensor:
    """Which channels, those along `dim`, have a non-zero element anywhere: bool, (channels,).

    A channel that speaks is left at its first such element, so that little is read of most tensors.
    """
    here = read_plain(values, dim)
    return stats_torch.alive(values, dim) if here is None else here[1]


Job = tuple[int, int, int, int, int]
"""Of a tensor, for the kernel: address, type, elements, address of old values, what to do."""


@dataclass
class Batch:
    """Dense float tensors that are read in one call, large ones by several threads; on CUDA in one
    launch for each kind.

    The tensors are to stay alive, and unchanged, until `rows` has been called.
    """

    jobs: array[int] = field(default_factory=lambda: array("q"))
    elements: int = 0
    places: list[int] = field(default_factory=list)
    """Of the jobs among all that were added; the others are on CUDA."""
    there: Any = None
    count: int = 0

    @staticmethod
    def takes(values: Tensor) -> bool:
        """Whether a tensor can be read here: floats without gaps, in CPU or CUDA memory."""
        if values.is_cuda:
            cuda = _on(values.device) if type(values) in _PLAIN and not values.is_neg() else None
            return cuda is not None and cuda.Many.takes(values)
        code = _code(values)
        return (
            code is not None
            and code < _FLOATS
            and values.data_ptr() != 0
            and (values.is_contiguous() or values.is_contiguous(memory_format=torch.channels_last))
        )

    def add_plain(self, values: Tensor) -> bool:
        """Read a tensor on the CPU, if `takes` accepts it; whether it does."""
        code = _code(values)
        if code is None or code >= _FLOATS or not (address := values.data_ptr()):
            return False
        if not (values.is_contiguous() or values.is_contiguous(memory_format=torch.channels_last)):
            return False
        self.add_again((address, code, values.numel(), 0, 0))
        return True

    def add(
        self, values: Tensor, *, old: int = 0, compare: bool = False, keep: bool = False
    ) -> None:
        """Read a tensor that `takes` accepted.

        Args:
            values: what to read.
            old: address of memory, on the same device, that has or gets earlier values as they lie.
            compare: read the values minus the old ones; in float32 for half types.
            keep: the old values are then overwritten. With `compare`, on the CPU only, they get a
                row of their own, behind that of the change.
        """
        what = (_COMPARED if compare else 0) | (_KEPT if keep else 0)
        if not values.is_cuda:
            self.add_again((values.data_ptr(), _CODES[values.dtype], values.numel(), old, what))
        else:
            if self.there is None:
                self.there = _on(values.device).Many()  # pyright: ignore[reportOptionalMemberAccess]
            self.there.add(values, old if keep else 0, old if compare else 0)
            self.count += 1

    def add_again(self, job: Job) -> None:
        """Read a tensor on the CPU that was added once, and lies where it lay, as it lay."""
        self.places.append(self.count)
        self.count += 1
        if job[4] & _BOTH == _BOTH:
            self.places.append(self.count)
            self.count += 1
        self.jobs.extend(job)
        self.elements += job[2]

    @staticmethod
    def replaced(values: Tensor, old: int) -> Job:
        """As `add` tells the kernel to compare a tensor with its old values and to keep it."""
        return (values.data_ptr(), _CODES[values.dtype], values.numel(), old, _BOTH)

    def rows(self) -> list[RawRow]:
        """The rows, in the order of `add`."""
        if self.there is None:
            return list(self._here()) if self.places else []
        far, here = iter(self.there.rows()), iter(self._here() if self.places else ())
        on_cpu = set(self.places)
        return [next(here if i in on_cpu else far) for i in range(self.count)]

    def _here(self) -> list[bytes]:
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
