"""Values held against the plan: spread, mean, bounds, constants, and the fans that they betray.

A sample of n values from N(0, σ²) has a standard deviation within σ·(1 ± 6/√(2n)) but once in
half a billion times, and a mean within ±6σ/√n; half precision adds what it rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lampwork.init import schemes
from lampwork.init.check import Finding, plain
from lampwork.init.fans import RECURRENT, matrices
from lampwork.init.stored import Value, drawn, padding

if TYPE_CHECKING:
    from lampwork.init.plan import Row

_SIGMAS = 6.0
_FIXED = ("zeros", "ones", "constant", "lstm_bias", "dirac", "identity")
"""Schemes that draw nothing."""
_ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-10}


def off_plan(value: Value) -> Finding | None:
    """`init-off-plan`: values that are not those that the plan calls for."""
    evidence = _difference(value)
    if not evidence:
        return None
    row = value.row
    return Finding(
        "init-off-plan",
        "fail",
        row.name,
        {"scheme": str(row.scheme), **evidence},
        f"These are not the values that the plan calls for ({row.reason}): they were never "
        f"written, written over, or drawn from other fans.\nplan.apply()  # after everything else",
    )


def _difference(value: Value) -> dict[str, object]:
    row, scheme = value.row, value.row.scheme
    padded = padding(value)
    if padded is not None and bool((padded != 0).any()):
        return {"padding_row": "not 0"}
    if scheme in _FIXED:
        return _fixed_difference(value)
    parts = matrices(value.values, row.parts) if value.is_whole and row.parts else [drawn(value)]
    for number, part in enumerate(parts):
        found = _drawn_difference(value, part)
        if found:
            return {**found, **({"part": number} if len(parts) > 1 else {})}
    # Small parts say little one by one: all of them together say more.
    return _drawn_difference(value, drawn(value)) if len(parts) > 1 else {}


def _fixed_difference(value: Value) -> dict[str, object]:
    if not value.is_whole:
        return {}
    expected = torch.empty(value.row.shape, dtype=torch.float32)
    write = getattr(schemes, f"{value.row.scheme}_")
    for part in matrices(expected, value.row.parts):
        write(part, **value.row.scheme.options)
    found = value.values.to("cpu", torch.float32)
    rounding = 1e-5 + _ROUNDING.get(value.values.dtype, 0.0)
    if torch.allclose(found, expected, rtol=rounding, atol=1e-6):
        return {}
    far = float((found - expected).abs().max())
    return {"largest_difference": plain(far), "mean": plain(float(found.mean()))}


def _drawn_difference(value: Value, part: Tensor) -> dict[str, object]:
    row, planned = value.row, value.row.std
    count = part.numel()
    if planned is None or count < 8:
        return {}
    drawn = part.double()
    std, mean = float(drawn.std(correction=0)), float(drawn.mean())
    rounding = 0.01 + 2 * _ROUNDING.get(part.dtype, 0.0)
    if abs(std - planned) > planned * (_SIGMAS / math.sqrt(2 * count) + rounding):
        return {"planned_std": plain(planned), "measured_std": plain(std), "count": count}
    options = row.scheme.options
    centre = {"normal": options.get("mean", 0.0), "trunc_normal": options.get("mean", 0.0)}.get(
        str(row.scheme), 0.0
    )
    if row.scheme == "uniform":
        centre = (options.get("a", 0.0) + options.get("b", 1.0)) / 2
    if row.scheme == "trunc_normal":
        beyond = _beyond_bounds(drawn - centre, options)
        if beyond:
            return beyond
    elif (
        planned
        and not _is_delta(row)
        and float((drawn - centre).abs().max()) > _outlier(count) * planned
    ):
        largest = float((drawn - centre).abs().max()) / planned
        return {"planned_std": plain(planned), "largest_in_std": plain(largest)}
    asymmetric = row.scheme == "trunc_normal" and options.get("a", -2.0) != -options.get("b", 2.0)
    fixed_mean = not asymmetric and str(row.scheme) not in ("sparse",)
    if fixed_mean and abs(mean - centre) > planned * (_SIGMAS / math.sqrt(count) + rounding):
        return {"planned_mean": plain(centre), "measured_mean": plain(mean), "count": count}
    return {}


def _is_delta(row: Row) -> bool:
    """Whether kernels have all their weight in the middle: far out for their spread."""
    return row.scheme == "delta_orthogonal" or bool(row.scheme.options.get("delta"))


def _beyond_bounds(drawn: Tensor, options: dict[str, float]) -> dict[str, object]:
    std, low, high = options.get("std", 1.0), options.get("a", -2.0), options.get("b", 2.0)
    lowest, highest = float(drawn.min()) / std, float(drawn.max()) / std
    if lowest >= low - 0.02 * abs(low) and highest <= high + 0.02 * abs(high):
        return {}
    return {
        "cut_in_std": [low, high],
        "found_in_std": [plain(lowest), plain(highest)],
        "std": plain(std),
    }


def _outlier(count: int) -> float:
    """Standard deviations that not one of so many values of any scheme passes."""
    return 4.0 + 2.0 * math.sqrt(2.0 * math.log(max(count, 2)))


def misread_fan(value: Value) -> Finding | None:
    """`init-off-plan` as a warning: a standard deviation that a misread fan explains.

    Where the true fans are more than twice off those that torch's functions read off the shape,
    in the standard deviation, and the values have just the one that He's, Xavier's or LeCun's
    formula gives with the misread fans, and not one that it gives with the true ones.
    """
    row, shape, std = value.row, value.row.shape, value.std
    if not std or not row.fan_in or not row.fan_out or value.values.numel() < 64:
        return None
    taps = math.prod(shape[2:])
    misread = (float(shape[1] * taps), float(shape[0] * taps))
    bound = 4.0 / math.sqrt(2 * value.values.numel()) + 0.01
    given = _formula(std, misread, bound)
    if given is None or _formula(std, (row.fan_in, row.fan_out), 0.25):
        return None
    true = given.std(row.fan_in, row.fan_out)
    if 0.5 <= std / true <= 2.0:
        return None
    return Finding(
        "init-off-plan",
        "warn",
        row.name,
        {
            "measured_std": plain(std),
            "std_of_true_fans": plain(true),
            "formula": given.name,
            "read_fans": [*misread],
            "true_fans": [row.fan_in, row.fan_out],
        },
        f"It was drawn by {given.name} with fans that were read off the shape, which are not "
        f"those of a {row.role} weight: use the true ones.\n"
        "lampwork.init.initialize(model, x)",
    )


@dataclass(frozen=True)
class _Formula:
    name: str
    gain: float
    which: str

    def std(self, fan_in: float, fan_out: float) -> float:
        fan = {"in": fan_in, "out": fan_out, "both": (fan_in + fan_out) / 2}[self.which]
        return self.gain / math.sqrt(fan)


_FORMULAS = (
    _Formula("He, fan_in", math.sqrt(2.0), "in"),
    _Formula("He, fan_out", math.sqrt(2.0), "out"),
    _Formula("LeCun, fan_in", 1.0, "in"),
    _Formula("LeCun, fan_out", 1.0, "out"),
    _Formula("Xavier", 1.0, "both"),
)


def _formula(std: float, fans: tuple[float, float], bound: float) -> _Formula | None:
    return next((f for f in _FORMULAS if abs(std / f.std(*fans) - 1.0) < bound), None)


def unlike_layers(values: Sequence[Value]) -> Iterator[Finding]:
    """`init-off-plan`: the layers and directions of one recurrent module that differ in spread."""
    groups: dict[tuple[int, str, tuple[int, ...]], list[Value]] = {}
    for value in values:
        if isinstance(value.site.module, RECURRENT) and not value.binding and value.is_whole:
            kind = value.site.attribute.rpartition("_l")[0]
            groups.setdefault((id(value.site.module), kind, value.row.shape), []).append(value)
    for group in groups.values():
        profiles = [_profile(value) for value in group]
        for value, profile in zip(group[1:], profiles[1:], strict=True):
            count = value.values.numel() // len(profile)
            apart = [_apart(a, b, count) for a, b in zip(profiles[0], profile, strict=True)]
            if count >= 8 and any(apart):
                yield Finding(
                    "init-off-plan",
                    "warn",
                    value.row.name,
                    {"unlike": group[0].row.name, "gates": [n for n, a in enumerate(apart) if a]},
                    "This layer or direction is not initialised as the first one is: do all of "
                    f"them.\nlampwork.init.initialize(model, x)  # {value.row.name} too",
                )
                break


def _apart(a: tuple[float, float], b: tuple[float, float], count: int) -> bool:
    """Whether two means and standard deviations differ by more than chance in that many values."""
    bound = math.sqrt(2.0) * _SIGMAS * max(a[1], b[1]) / math.sqrt(count)
    return abs(a[0] - b[0]) > bound + 1e-6 or abs(a[1] - b[1]) > bound + 1e-6


def _profile(value: Value) -> list[tuple[float, float]]:
    """Mean and standard deviation of each gate."""
    own = value.site.module
    gates = max(1, value.row.shape[0] // int(getattr(own, "hidden_size", value.row.shape[0])))
    blocks = [block.double() for block in value.values.chunk(gates)]
    return [(float(block.mean()), float(block.std(correction=0))) for block in blocks]
