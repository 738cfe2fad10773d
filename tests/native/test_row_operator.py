"""The statistic as an operator: what torch asks of one, and the row of the kernel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lampwork._core.summary import WIDTH
from lampwork._native import row_operator, stats
from lampwork._native.collected import rows_of

row_operator.make()

TENSORS = {
    "dense": torch.linspace(-3, 3, 24).reshape(2, 3, 4),
    "with gaps": torch.linspace(-3, 3, 24).reshape(4, 6)[:, ::2],
    "half": torch.linspace(-3, 3, 20_000).bfloat16(),
    "of one number": torch.tensor(2.5, dtype=torch.float64),
    "empty": torch.zeros(3, 0),
    "not finite": torch.tensor([1.0, float("nan"), float("-inf"), 0.0]),
    "negated": torch.full((3,), 1 + 2j).conj().imag,
}


@pytest.fixture(params=TENSORS, autouse=True)
def values(request) -> Tensor:
    """Of each kind one."""
    return TENSORS[request.param]


def test_a_row_is_that_of_the_kernel_with_the_sizes_behind_it(values: Tensor):
    """Bit for bit, with -1 for dimensions that are not there."""
    found = row_operator.row(values)
    assert torch.equal(found[:WIDTH], torch.from_numpy(rows_of([stats.read(values)])[0]))
    assert found[WIDTH:].tolist() == [*values.shape, *[-1] * (stats.SIZES - values.dim())]


def test_torch_accepts_the_operator(values: Tensor):
    """Schema, shapes without values, and a graph of it hold torch's own checks."""
    operator = getattr(torch.ops.lampwork, row_operator._NAME).default
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(operator, (values,), test_utils=checks)
