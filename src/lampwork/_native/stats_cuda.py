"""Tensors on CUDA → rows in pages, by the Triton kernels: one launch for each, or for many at once.

Nothing waits for the device, and a dense tensor in any order of dimensions is read where it lies.
How tensors of one shape and layout are read is found out once; from then on a call looks it up and
starts the kernel, since of a step's hundreds of readings it is the host that takes the time.
"""

from __future__ import annotations

from array import array
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch import Tensor

from lampwork._core.summary import WIDTH, empty_row
from lampwork._native import launching, pages, stats_torch
from lampwork._native import stats_triton as kernels
from lampwork._native.collected import Flags, RawRow
from lampwork._native.pages import FarFlags, FarRow
from lampwork._native.stats_torch import SAMPLED_ABOVE, SIZES

WARPS = 8
_TYPES = {
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
}
_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_INTEGERS = {
    torch.int8: tl.int8,
    torch.int16: tl.int16,
    torch.int32: tl.int32,
    torch.int64: tl.int64,
    torch.uint8: tl.uint8,
    torch.bool: tl.uint8,
    torch.uint16: tl.uint16,
    torch.uint32: tl.uint32,
    torch.uint64: tl.uint64,
}
_LOOKERS = 256
"""Programs that share out the search for silent channels, where there are fewer groups of them."""
_ARGUMENTS = 16  # of `read_one`
_MOST_PLANS = 4096  # where lengths differ from step to step


class _Variant:
    """The kernel for one kind of tensors, on one device.

    Attributes:
        options: its arguments at compile time.
        handle: by which it is started; None before it has run, and where Triton is to start it.
        tried: whether the handle has been asked for.
    """

    __slots__ = ("handle", "options", "tried")

    def __init__(self, dtype: torch.dtype, look: bool, aligned: bool) -> None:
        wide = dtype not in _NARROW
        self.options = {
            "TYPE": _TYPES.get(dtype) or _INTEGERS[dtype],
            "WIDE": tl.float64 if wide else tl.float32,
            "IS_WIDE": wide,
            "IS_FLOAT": dtype.is_floating_point,
            "LOOK": look,
            "ALIGNED": aligned,
        }
        self.handle: launching.Handle | None = None
        self.tried = False


@dataclass(slots=True)
class _Plan:
    """How tensors of one shape, layout and type are read.

    Attributes:
        variant: the kernel.
        programs: to be started.
        parts: of the tensor.
        channels: of which flags are wanted; 0 for none.
        own_flags: their flags do not fit into a page.
        constants: the arguments that follow from the layout, as int64.
    """

    variant: _Variant
    programs: int
    parts: int
    channels: int
    own_flags: bool
    constants: array[int]
    packed: bytes


_variants: dict[tuple[torch.dtype, int, bool, bool], _Variant] = {}
_plans: dict[tuple[Any, ...], _Plan | None] = {}


def read(values: Tensor, dim: int | None = None) -> tuple[RawRow, Flags | None]:
    """The row of a strided real tensor, and which channels along `dim` are alive."""
    address, index = values.data_ptr(), values.get_device()
    plan = _plan(values, dim, address, index)
    if plan is None or not address:
        return _read_other(values.detach(), dim)
    return _run(plan, address, index)


def _plan(values: Tensor, dim: int | None, address: int, index: int) -> _Plan | None:
    """As `_planned`, found out once."""
    key = values.shape, values.stride(), values.dtype, dim, index, address & 15 == 0
    plan = _plans.get(key)
    if plan is None and key not in _plans:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        plan = _plans[key] = _planned(values, dim)
    return plan


def _run(plan: _Plan, address: int, index: int) -> tuple[FarRow, Flags | None]:
    flags = None
    if plan.own_flags:
        flags = torch.zeros(plan.channels, dtype=torch.uint8, device=_device(index))
        page, row, first, _ = pages.place(index, plan.parts)
        flags_at = flags.data_ptr()
    else:
        page, row, first, flag = pages.place(index, plan.parts, plan.channels)
        flags_at = page.flags_address + flag
        if plan.channels:
            flags = FarFlags(page, flag, plan.channels)
    _start(plan, index, page.stream, address, page.address, row, first, flags_at)
    return FarRow(page, row), flags


def _start(plan: _Plan, index: int, stream: int, *numbers: int) -> None:
    kernel = plan.variant.handle
    started = (
        kernel is not None
        # The driver starts it on whatever device is current, and knows no other device's stream.
        and (index < 0 or torch._C._cuda_getDevice() == index)
        and launching.start(kernel, stream, plan.programs, plan.packed, *numbers)
    )
    if not started:
        _run_by_triton(plan, index, numbers)


def _run_by_triton(plan: _Plan, index: int, numbers: tuple[int, ...]) -> None:
    variant = plan.variant
    with torch.cuda.device(index) if index >= 0 else nullcontext():
        compiled = kernels.read_one[(plan.programs,)](
            *numbers,
            *plan.constants,
            **variant.options,
            num_warps=WARPS,  # pyright: ignore[reportCallIssue]
        )
    if not variant.tried:
        variant.tried = True
        if index >= 0:
            variant.handle = launching.handle(compiled, _ARGUMENTS)


def row_with_sizes(values: Tensor) -> Tensor:
    """The row of a strided real tensor and its sizes, as `stats_torch.row_with_sizes`.

    All memory is torch's own and of this call, so that a CUDA graph may repeat it.
    """
    address, index = values.data_ptr(), values.get_device()
    if not address:  # no elements, or zeros that torch never wrote
        return stats_torch.row_with_sizes(values)
    sizes = [*values.shape, *[-1] * (SIZES - values.dim())]
    plan = _plan(values, None, address, index)
    if plan is None:
        values = _without_gaps(values if _is_known(values.dtype) else values.to(torch.float32))
        address = values.data_ptr()
        plan = _plan(values, None, address, index)
        assert plan is not None
    found = torch.empty(WIDTH + SIZES, dtype=torch.float64, device=values.device)
    page = torch.empty(pages.FLAGS_AT, dtype=torch.float64, device=values.device)
    stream = torch._C._cuda_getCurrentRawStream(index) if index >= 0 else 0
    _start(plan, index, stream, address, page.data_ptr(), 0, 0, 0)
    _fold(kernels.fold_one, index, stream, 1, page.data_ptr(), found.data_ptr(), *sizes)
    return found


_folds: dict[tuple[int, int], launching.Handle | None] = {}


def fold(index: int, stream: int, rows: int, memory: int, to: int) -> None:
    """Add up the parts of a page.

    Args:
        index: of the CUDA device; -1 for the CPU.
        stream: the driver's handle of the stream, which is the current one.
        rows: how many the page has.
        memory: the page's address.
        to: where the rows are to be.
    """
    _fold(kernels.fold, index, stream, rows, memory, to)


def _fold(kernel: Any, index: int, stream: int, programs: int, *numbers: int) -> None:
    key = len(numbers), index
    known = _folds.get(key)
    if (
        known is not None
        and torch._C._cuda_getDevice() == index
        and launching.start(known, stream, programs, b"", *numbers)
    ):
        return
    with torch.cuda.device(index) if index >= 0 else nullcontext():
        compiled = kernel[(programs,)](*numbers, num_warps=4)
    if index >= 0 and key not in _folds:
        _folds[key] = launching.handle(compiled, len(numbers))


def _device(index: int) -> torch.device:
    return torch.device("cuda", index) if index >= 0 else torch.device("cpu")


def _planned(values: Tensor, dim: int | None) -> _Plan | None:
    """How to read a tensor; None where it first has to be made into another."""
    if not _is_known(values.dtype) or values.numel() == 0 or not _is_dense(values):
        return None
    search = None if dim is None else _search(values, dim)
    lookers, *looking = search or _NOTHING
    channels = 0 if dim is None or search is None else values.shape[dim]
    count = values.numel()
    blocks, parts = _cut(count)
    aligned = values.data_ptr() % 16 == 0
    kind = values.dtype, values.get_device(), search is not None, aligned
    variant = _variants.get(kind)
    if variant is None:
        variant = _variants[kind] = _Variant(values.dtype, search is not None, aligned)
    counters = _counters(count)
    constants = array("q", (count, blocks, counters, lookers, *looking))
    return _Plan(
        variant, counters + lookers + parts, parts, channels, channels > pages.FLAGS, constants,
        constants.tobytes(),
    )  # fmt: skip


def _read_other(values: Tensor, dim: int | None) -> tuple[RawRow, Flags | None]:
    """Of a tensor that cannot be read as it lies."""
    if values.numel() == 0:
        return empty_row().tobytes(), None
    if values.data_ptr() == 0:  # zeros that torch never wrote
        return stats_torch.summary_row(values), None
    if not _is_known(values.dtype):
        return read(values.to(torch.float32), dim)  # float8, which has fewer digits
    return read(_without_gaps(values), dim)


def _is_known(dtype: torch.dtype) -> bool:
    return dtype in _TYPES or dtype in _INTEGERS


def _cut(count: int) -> tuple[int, int]:
    """Blocks of a part, and parts, of so many elements."""
    blocks = max(kernels.SHORTEST, -(-count // (kernels.BLOCK * kernels.MOST_PARTS)))
    return blocks, -(-count // (kernels.BLOCK * blocks))


def _counters(count: int) -> int:
    """Programs that count the exponents of so many elements."""
    stride = -(-count // SAMPLED_ABOVE) | 1
    return -(-count // (stride * pages.COUNTED))


def _is_dense(values: Tensor) -> bool:
    """Whether the elements fill their memory without gaps, in whatever order of dimensions."""
    expected = 1
    for stride, size in sorted(zip(values.stride(), values.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _without_gaps(values: Tensor) -> Tensor:
    """A dense copy in the same order of memory."""
    order = sorted(range(values.dim()), key=lambda dim: -values.stride(dim))
    copy = values.permute(order).contiguous()
    return copy.permute([order.index(dim) for dim in range(values.dim())])


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
        kinds: dict[tuple[int, torch.dtype, bool, bool, bool], list[tuple[int, ...]]] = {}
        for i, (values, copy_to, minus) in enumerate(self.jobs):
            address = values.data_ptr()
            aligned = (address | copy_to | minus) & 15 == 0
            kind = values.get_device(), values.dtype, copy_to != 0, minus != 0, aligned
            kinds.setdefault(kind, []).append((i, address, values.numel(), copy_to, minus))
        rows: list[FarRow | None] = [None] * len(self.jobs)
        for kind, members in kinds.items():
            jobs: list[int] = []
            owners: list[int] = []  # programs of each
            begun = 0
            for i, address, count, copy_to, minus in members:
                blocks, parts = _cut(count)
                page, row, first, _ = pages.place(kind[0], parts)
                rows[i] = FarRow(page, row)
                counters = _counters(count)
                places = row << 32 | first << 8 | counters
                jobs += address, count, blocks, copy_to, minus, page.address, places, begun
                owners.append(counters + parts)
                begun += counters + parts
            _run_many(kind, jobs, owners)
        return rows  # pyright: ignore[reportReturnType]


def _run_many(
    kind: tuple[int, torch.dtype, bool, bool, bool], jobs: list[int], owners: list[int]
) -> None:
    index, dtype, copies, subtracts, aligned = kind
    wide = dtype not in _NARROW
    numbers = np.arange(len(owners), dtype=np.int32)
    with torch.cuda.device(index) if index >= 0 else nullcontext():
        kernels.read_many[(sum(owners),)](
            _sent(np.array(jobs, np.int64), index),
            _sent(np.repeat(numbers, owners), index),
            TYPE=_TYPES[dtype],
            WIDE=tl.float64 if wide else tl.float32,
            IS_WIDE=wide,
            COPY=copies,
            MINUS=subtracts,
            ALIGNED=aligned,
            num_warps=WARPS,  # pyright: ignore[reportCallIssue]
        )


def _sent(numbers: np.ndarray, index: int) -> Tensor:
    """Numbers on a device, without waiting for it: torch keeps what they are copied from."""
    here = torch.from_numpy(numbers)
    return here if index < 0 else here.pin_memory().to(_device(index), non_blocking=True)
