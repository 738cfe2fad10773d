"""Whether the kernels are right on this machine's CUDA device: each against the fallback in torch.

The tests ask more; this tells within seconds, and needs nothing but torch and NumPy.

    python benchmarks/gpu_check.py
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from lampwork._core.summary import COLUMN, WIDTH
from lampwork._native import stats, stats_torch
from lampwork._native.collected import Collected, rows_of

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
OTHERS = (torch.int32, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn)
SUMS = [COLUMN["sum"], COLUMN["sumsq"]]
REST = [i for i in range(WIDTH) if i not in SUMS]


def differences(found: np.ndarray, expected: np.ndarray) -> str:
    """What is wrong with a row; empty if nothing is."""
    wrong = [i for i in REST if found[i] != expected[i]]
    scale = np.sqrt(expected[0] * expected[COLUMN["sumsq"]]) + 1e-300
    off = [abs(found[i] - expected[i]) for i in SUMS]
    bad = off[0] > 1e-12 * scale or off[1] > 1e-12 * expected[SUMS[1]]
    if not wrong and not bad:
        return ""
    at = [(i, found[i], expected[i]) for i in wrong[:5]]
    return f"columns {at}, sums {found[SUMS]} instead of {expected[SUMS]}"


def sample(count: int, dtype: torch.dtype) -> torch.Tensor:
    values = torch.randn(count, device="cuda").mul(50)
    values = values.to(dtype) if dtype is not torch.bool else values > 0
    if dtype in FLOATS and count > 100:
        values[:6] = torch.tensor([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40]).to(dtype)
    return values


def main() -> None:
    torch.manual_seed(0)
    print(sys.version.split()[0], "torch", torch.__version__, torch.cuda.get_device_name())
    print("C kernels:", "yes" if stats._kernels is not None else "no", flush=True)
    cuda = stats._on(torch.device("cuda", 0))
    print("Triton:", "runs" if cuda is not None else "does not run", flush=True)
    failed = 0
    for dtype in FLOATS + OTHERS:
        began = time.perf_counter()
        for count in (1, 1000, 8192, 8193, 1_000_003):
            tensor = sample(count, dtype)
            wide = tensor.float() if dtype is torch.float8_e4m3fn else tensor
            expected = stats_torch.summary_row(wide.cpu()).numpy()
            wrong = differences(rows_of([stats.read(tensor)])[0], expected)
            failed += bool(wrong)
            print(f"{dtype} × {count}: {wrong or 'right'}", flush=True) if wrong else None
        print(f"{dtype}: {time.perf_counter() - began:.1f} s", flush=True)
    for shape, dim in (((8, 70, 30, 30), 1), ((64, 3, 224, 224), 1), ((4, 128, 768), 2)):
        for format in (torch.contiguous_format, torch.channels_last):
            if format is torch.channels_last and len(shape) != 4:
                continue
            tensor = torch.randn(shape, device="cuda").to(memory_format=format)
            tensor.select(dim, 2).zero_()
            row, flags = stats.read_with_channels(tensor, dim)
            collected = Collected([row], [flags])
            silent = np.nonzero(~collected.flags()[0])[0].tolist()
            wrong = differences(collected.rows()[0], stats_torch.summary_row(tensor.cpu()).numpy())
            wrong += "" if silent == [2] else f", silent {silent}"
            failed += bool(wrong)
            print(f"channels of {shape} {format}: {wrong or 'right'}", flush=True)
    many, kept = stats.Batch(), []
    for dtype in FLOATS:
        for count in (7, 100_000):
            old = torch.randn(count, device="cuda").to(dtype)
            place, twin = torch.empty_like(old), old.clone()
            new = old * 1.01
            many.add(old, old=place.data_ptr(), keep=True)
            many.add(new, old=twin.data_ptr(), compare=True)
            kept.append((old, place, new, twin))
    rows = rows_of(many.rows())
    torch.cuda.synchronize()
    for i, (old, place, new, twin) in enumerate(kept):
        kind = torch.promote_types(old.dtype, torch.float32)
        change = new.to(kind) - twin.to(kind)
        wrong = differences(rows[2 * i], stats_torch.summary_row(old.cpu()).numpy())
        wrong += differences(rows[2 * i + 1], stats_torch.summary_row(change.cpu()).numpy())
        wrong += "" if torch.equal(old, place) else ", the copy differs"
        failed += bool(wrong)
        print(f"together, {old.dtype} × {len(old)}: {wrong or 'right'}", flush=True)
    print("FAILED" if failed else "all right", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
