"""Tensors on CUDA → rows in pages, by the Triton kernels: one launch for each, or for many at once.

Nothing waits for the device, and a dense tensor in any order of dimensions is read where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
import triton.language as tl
from torch import Tensor

from lampwork._core.summary import empty_row
from lampwork._native import pages, stats_torch
from lampwork._native import stats_triton as kernels
from lampwork._native.pages import FarFlags, FarRow

WARPS = 8
_TYPES = {
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
}
_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_INTEGERS = frozenset(
    (
        torch.int8, torch.int16, torch.int32, torch.int64,
        torch.uint8, torch.uint16, torch.uint32, torch.uint64,
    )
)  # fmt: skip
_LOOKERS = 256
"""Programs that share out the search for silent channels, where there are fewer groups of them."""


def read(values: Tensor, dim: int | None = None) -> tuple[FarRow | bytes, FarFlags | Tensor | None]:
    """The row of a strided real tensor, and which channels along `dim` are alive."""
    if values.numel() == 0:
        return empty_row().tobytes(), None
    if values.dtype is torch.bool:
        values = values.view(torch.uint8)
    elif values.dtype not in _TYPES and values.dtype not in _INTEGERS:
        values = values.to(torch.float32)  # float8, which has fewer digits
    search = None if dim is None else _search(values, dim)
    flags: FarFlags | Tensor | None = None
    channels = 0
    if dim is not None:
        channels = values.shape[dim] if search is not None else 0
        if search is None:
            flags = stats_torch.alive(values, dim)
        elif channels > pages.FLAGS:
            flags = torch.zeros(channels, dtype=torch.uint8, device=values.device)
            channels = 0
    dense = _dense(values)
    count = dense.numel()
    blocks, parts = _cut(count)
    page, row, first, flag = pages.place(values.device, parts, channels)
    if channels:
        flags = FarFlags(page, flag, channels)
    lookers, *looking = search or _NOTHING
    wide = values.dtype not in _NARROW
    with torch.cuda.device_of(values):
        kernels.read_one[(1 + lookers + parts,)](
            dense,
            page.memory,
            flags if isinstance(flags, Tensor) and search is not None else page.flags,
            count,
            blocks,
            row,
            first,
            flag if channels else 0,
            lookers,
            *looking,
            WIDE=tl.float64 if wide else tl.float32,
            IS_WIDE=wide,
            IS_FLOAT=values.is_floating_point(),
            LOOK=search is not None,
            num_warps=WARPS,  # pyright: ignore[reportCallIssue]
        )
    return FarRow(page, row), flags


def _cut(count: int) -> tuple[int, int]:
    """Blocks of a part, and parts, of so many elements."""
    blocks = max(kernels.SHORTEST, -(-count // (kernels.BLOCK * kernels.MOST_PARTS)))
    return blocks, -(-count // (kernels.BLOCK * blocks))


def _dense(values: Tensor) -> Tensor:
    """The values without gaps: as they are if they have none, in whatever order they lie."""
    if values.is_contiguous() or values.is_contiguous(memory_format=torch.channels_last):
        return values
    return stats_torch.in_memory_order(values).contiguous()


_NOTHING = (0, 0, 0, 0, 1, 0, 0, 0)


def _search(values: Tensor, dim: int) -> tuple[int, ...] | None:
    """How programs look at the channels along `dim`, as `_look` takes it, behind their number.

    None where the other dimensions are more than two runs in memory, which dense tensors are not.
    """
    runs: list[list[int]] = []  # size and stride, outermost first
    others = [d for d in range(values.dim()) if d != dim and values.shape[d] != 1]
    for d in sorted(others, key=lambda d: -values.stride(d)):
        size, stride = values.shape[d], values.stride(d)
        if runs and runs[-1][1] == stride * size:
            runs[-1] = [runs[-1][0] * size, stride]
        else:
            runs.append([size, stride])
    if len(runs) > 2:
        return None
    inner, inner_stride = runs[-1] if runs else (1, 0)
    outer_stride = runs[0][1] if len(runs) == 2 else 0
    channels, deep = values.shape[dim], prod(size for size, _ in runs)
    groups = -(-channels // kernels.CHANNELS)
    shares = max(1, min(_LOOKERS // groups, deep // (16 * kernels.DEEP)))
    depth = -(-deep // (shares * kernels.DEEP)) * kernels.DEEP
    return (
        groups * shares, depth, channels, deep, inner, outer_stride, inner_stride,
        values.stride(dim),
    )  # fmt: skip


@dataclass
class Many:
    """Dense float tensors that are read by one launch for each of their kinds."""

    jobs: list[tuple[Tensor, int, int]] = field(default_factory=list)

    @staticmethod
    def takes(values: Tensor) -> bool:
        """Whether a tensor can be read here: floats without gaps."""
        return (
            values.dtype in _TYPES
            and values.numel() > 0
            and (values.is_contiguous() or values.is_contiguous(memory_format=torch.channels_last))
        )

    def add(self, values: Tensor, copy_to: int = 0, minus: int = 0) -> None:
        """Read a tensor that `takes` accepted; addresses as `stats.Batch.add` takes them."""
        self.jobs.append((values, copy_to, minus))

    def rows(self) -> list[FarRow]:
        """The rows, in the order of `add`."""
        rows: list[FarRow | None] = [None] * len(self.jobs)
        kinds: dict[tuple[torch.device, torch.dtype, bool, bool, bool], list[int]] = {}
        for i, (values, copy_to, minus) in enumerate(self.jobs):
            aligned = (values.data_ptr() | copy_to | minus) % 16 == 0
            kind = values.device, values.dtype, copy_to != 0, minus != 0, aligned
            kinds.setdefault(kind, []).append(i)
        for (device, dtype, copies, subtracts, aligned), members in kinds.items():
            table = np.empty((len(members), 8), np.int64)
            programs = np.empty(len(members), np.int64)
            for j, i in enumerate(members):
                values, copy_to, minus = self.jobs[i]
                count = values.numel()
                blocks, parts = _cut(count)
                page, row, first, _ = pages.place(device, parts)
                rows[i] = FarRow(page, row)
                where = page.memory.data_ptr(), row << 16 | first
                table[j, :7] = (values.data_ptr(), count, blocks, copy_to, minus, *where)
                programs[j] = 1 + parts
            table[:, 7] = np.cumsum(programs) - programs
            owners = np.repeat(np.arange(len(members), dtype=np.int32), programs)
            with torch.cuda.device_of(self.jobs[members[0]][0]):
                kernels.read_many[(len(owners),)](
                    _sent(table, device),
                    _sent(owners, device),
                    TYPE=_TYPES[dtype],
                    WIDE=tl.float32 if dtype in _NARROW else tl.float64,
                    IS_WIDE=dtype not in _NARROW,
                    COPY=copies,
                    MINUS=subtracts,
                    ALIGNED=aligned,
                    num_warps=WARPS,  # pyright: ignore[reportCallIssue]
                )
        return rows  # pyright: ignore[reportReturnType]


def _sent(array: np.ndarray, device: torch.device) -> Tensor:
    """An array on the device, without waiting for it: torch keeps what it is copied from."""
    there = torch.from_numpy(array)
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there
