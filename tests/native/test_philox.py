import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from lampwork._native import philox, philox_torch
from lampwork._native.philox import Box, Stream

STREAM = Stream(0x123456789ABCDEF0, 0xFEDCBA9876543210)

FILLS = {
    "uniform": lambda tensor, *where: philox.fill_uniform(tensor, STREAM, -0.3, 0.7, *where),
    "normal": lambda tensor, *where: philox.fill_normal(tensor, STREAM, 0.1, 0.5, *where),
    "cut": lambda t, *where: philox.fill_trunc_normal(t, STREAM, 0.5, 2.0, -2.0, 2.0, *where),
    "one-sided": lambda t, *where: philox.fill_trunc_normal(
        t, STREAM, 0.0, 1.0, -math.inf, 0.5, *where
    ),
    "far": lambda t, *where: philox.fill_trunc_normal(t, STREAM, 0.0, 1.0, 5.0, 7.0, *where),
}
PINNED = {
    "uniform": [0.903137505, 0.550503075, 0.246201932, 0.0392301679],
    "normal": [1.29963827, 0.126932591, -0.686490476, -1.75968957],
    "cut": [1.1993016, 0.121128142, -0.650298178, -1.55313575],
}
compiled = pytest.mark.skipif(philox._native_fill is None, reason="built without a C compiler")


def _filled(name, shape, dtype=torch.float32, box=None):
    tensor = torch.empty(shape, dtype=dtype)
    FILLS[name](tensor, *([] if box is None else [box]))
    return tensor


def _in_torch(monkeypatch):
    monkeypatch.setattr(philox, "_native_fill", None)


def test_blocks_are_those_of_the_paper():
    """The known answers that the authors of Philox 4x32-10 publish."""
    for counter, key, answer in [
        ((0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((-1, 2**64 - 1), 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x85A308D3243F6A88 - 2**64, 0x0370734413198A2E),
            0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]:
        block, stream = counter
        found = philox_torch._blocks(Stream(key, stream), torch.tensor([block]))[0]
        assert [word & 0xFFFFFFFF for word in found.tolist()] == list(answer)
    first = philox.words(Stream(0, 0), 0, 4) & 0x7FFFFFFF
    assert first.tolist() == [
        word & 0x7FFFFFFF for word in (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    ]


def test_values_are_these_for_ever():
    """Stream (1, 2), positions 0 to 3, pinned to the last bit of float32."""
    found = {}
    for name, fill in {
        "uniform": lambda t: philox.fill_uniform(t, Stream(1, 2), 0.0, 1.0),
        "normal": lambda t: philox.fill_normal(t, Stream(1, 2), 0.0, 1.0),
        "cut": lambda t: philox.fill_trunc_normal(t, Stream(1, 2), 0.0, 1.0, -2.0, 2.0),
    }.items():
        tensor = torch.empty(4)
        fill(tensor)
        found[name] = [float(f"{value:.9g}") for value in tensor.tolist()]
    assert found == PINNED


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", FILLS)
def test_the_kernel_and_torch_give_the_same_bits(name, dtype, monkeypatch):
    """Over 100,000 values, which reach all branches of the quantile."""
    kernel = _filled(name, (100_003,), dtype)
    _in_torch(monkeypatch)
    assert torch.equal(kernel, _filled(name, (100_003,), dtype))


@compiled
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    data=st.data(),
)
@settings(deadline=None, max_examples=40)
def test_any_box_holds_what_the_whole_holds_there(shape, data):
    """Cut out of a whole tensor anywhere, by the kernel and by torch."""
    starts = [data.draw(st.integers(0, size - 1)) for size in shape]
    sizes = [data.draw(st.integers(1, s - a)) for a, s in zip(starts, shape, strict=True)]
    first = data.draw(st.sampled_from([0, 3, 2**34 - 7, 2**40]))
    whole = _filled("normal", shape, box=philox.dense(shape, first))
    strides = philox.dense(shape).strides
    offset = first + sum(a * step for a, step in zip(starts, strides, strict=True))
    part = _filled("normal", sizes, box=Box(offset, strides))
    place = tuple(slice(a, a + s) for a, s in zip(starts, sizes, strict=True))
    assert torch.equal(part, whole[place])
    words = philox_torch.words_of(sizes, STREAM, Box(offset, strides), torch.device("cpu"))
    values = philox_torch.values_of(philox_torch.NORMAL, words, philox_torch.Numbers(0.5, 0.1))
    assert torch.equal(part, values)


@compiled
def test_kernels_for_all_vector_units_agree():
    """A stretch too short for vectors goes the portable way."""
    whole = philox.words(STREAM, 0, 4 * 64)
    singly = [philox.words(STREAM, 4 * block, 4) for block in range(64)]
    assert torch.equal(whole, torch.cat(singly))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_count(threads):
    """Nor whether several tensors are filled at once."""
    torch.set_num_threads(1)
    alone = _filled("normal", (333_333,))
    torch.set_num_threads(threads)
    others = [torch.empty(333_333) for _ in range(3)]
    running = [threading.Thread(target=FILLS["normal"], args=(tensor,)) for tensor in others]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    torch.set_num_threads(1)
    assert all(torch.equal(tensor, alone) for tensor in others)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("uniform", stats.uniform(-0.3, 1.0)),
        ("normal", stats.norm(0.1, 0.5)),
        ("cut", stats.truncnorm(-2, 2, 0.5, 2.0)),
        ("one-sided", stats.truncnorm(-math.inf, 0.5)),
        ("far", stats.truncnorm(5, 7)),
    ],
)
def test_values_have_their_distribution(name, reference):
    """Kolmogorov-Smirnov over 400,000 values, and neighbours that do not know of one another."""
    values = _filled(name, (400_000,)).double().numpy()
    assert stats.kstest(values, reference.cdf).pvalue > 1e-3
    for lag in (1, 2, 3, 4, 7):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 0.007


def test_a_normal_value_is_the_quantile_of_its_word():
    """Against float64's inverse distribution function: 5e-7 relative, out to the last words."""
    words = torch.cat([philox.words(STREAM, 0, 50_000), _edges()])
    numbers = philox_torch.Numbers(1.0, 0.0)
    values = philox_torch.values_of(philox_torch.NORMAL, words, numbers).double().numpy()
    exact = special.ndtri(((words.numpy().astype(np.int64) & 0xFFFFFFFF) + 0.5) / 2**32)
    np.testing.assert_allclose(values, exact, rtol=5e-7)
    assert values.max() == pytest.approx(6.3379, abs=1e-3)
    assert values.min() == -values.max()


def _edges():
    near = torch.arange(0, 40, dtype=torch.int64)
    both = torch.cat([near, 2**32 - 1 - near, 2**31 + near, 2**31 - 1 - near])
    return torch.where(both > 2**31 - 1, both - 2**32, both).to(torch.int32)


def test_streams_differ_in_every_bit_of_key_and_counter():
    """Flipping any of the 128 bits gives other values, about half of whose bits differ."""
    base = philox.words(STREAM, 0, 64)
    for bit in range(64):
        for other in (
            STREAM._replace(key=STREAM.key ^ 1 << bit),
            STREAM._replace(counter=STREAM.counter ^ 1 << bit),
        ):
            changed = (philox.words(other, 0, 64) ^ base).numpy().view(np.uint8)
            assert 0.4 < np.unpackbits(changed).mean() < 0.6


def test_autograd_sees_the_writing():
    """A backward pass through values that were overwritten fails."""
    weight = torch.ones(4, requires_grad=True)
    with torch.no_grad():
        view = weight.detach()
    loss = (view * torch.ones(4, requires_grad=True)).sum()
    philox.fill_normal(view, STREAM, 0.0, 1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_empty_and_scalar_tensors_are_filled():
    """Nothing, one value; on meta nothing is done."""
    assert _filled("normal", ()).item() == _filled("normal", (5,))[0].item()
    assert _filled("normal", (0, 3)).numel() == 0
    meta = torch.empty(3, device="meta")
    philox.fill_normal(meta, STREAM, 0.0, 1.0)
