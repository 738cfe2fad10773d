"""Stacking past the caches gives what `torch.stack` gives, or leaves it to torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork._native import streamed

DTYPES = (torch.float32, torch.uint8, torch.bool, torch.bfloat16, torch.complex128, torch.int64)

needs_kernels = pytest.mark.skipif(streamed._stack is None, reason="built without a compiler")


@needs_kernels
@settings(max_examples=50, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(1, 40), max_size=3),
    count=st.integers(1, 5),
    shift=st.integers(0, 9),
)
def test_every_bit_is_that_of_torch(dtype, shape, count, shift):
    """Any dtype and size, at any alignment, and nothing beside the batch is touched."""
    size = torch.Size(shape).numel()
    memory = torch.randint(256, (count * (size + 3), dtype.itemsize), dtype=torch.uint8)
    memory = memory % 2 if dtype is torch.bool else memory
    memory = memory.view(dtype).flatten()
    samples = [memory[i * (size + 1) : i * (size + 1) + size].view(shape) for i in range(count)]
    around = torch.ones(count * size + 20, dtype=dtype)
    out = around[shift : shift + count * size].view(count, *shape)
    assert streamed.stack(samples, out)
    bits = out.contiguous().view(torch.uint8) if out.dim() else out
    assert torch.equal(bits, torch.stack(samples).view(torch.uint8))
    assert bool((around[:shift] == 1).all())
    assert bool((around[shift + count * size :] == 1).all())


@needs_kernels
@pytest.mark.parametrize(
    "other",
    [
        torch.ones(2, 3),
        torch.ones(3, dtype=torch.float64),
        torch.ones(6)[::2],
        torch.ones(3, requires_grad=True),
        torch.nn.Parameter(torch.ones(3), requires_grad=False),
        torch.ones(3).to_sparse(),
        [1.0, 1.0, 1.0],
    ],
    ids=["shape", "dtype", "strided", "gradient", "subclass", "sparse", "list"],
)
def test_what_is_not_plain_is_left_to_torch(other):
    """One sample that is more than its memory, and nothing is written."""
    out = torch.zeros(2, 3)
    assert not streamed.stack([torch.ones(3), other], out)
    assert not out.any()


@needs_kernels
def test_only_large_batches_go_past_the_caches():
    """A batch that its reader finds in the cache is stacked as ever."""
    assert not streamed.pays(torch.empty(streamed.LARGE // 4 - 1))
    assert streamed.pays(torch.empty(streamed.LARGE // 4))


def test_without_a_compiler_torch_stacks(monkeypatch):
    """The kernels are a gain and no condition."""
    monkeypatch.setattr(streamed, "_stack", None)
    assert not streamed.pays(torch.empty(streamed.LARGE))
    assert not streamed.stack([torch.ones(3)], torch.empty(1, 3))
