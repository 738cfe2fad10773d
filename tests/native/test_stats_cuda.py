"""The statistic on CUDA: on a device where there is one, else by Triton's interpreter."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lampwork._core.summary import COLUMN, WIDTH
from lampwork._native import pages, stats_torch
from lampwork._native.collected import Collected, rows_of
from tests.native.reference import assert_describes
from tests.native.test_stats import FLOATS, INTEGERS, check_row, tame, tensors

pytest.importorskip("triton")
from lampwork._native import stats_cuda

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EXAMPLES = 200 if DEVICE == "cuda" else 10  # the interpreter takes 50 ms a tensor
SUMS = [COLUMN["sum"], COLUMN["sumsq"]]

# The interpreter adds up with NumPy, which warns of inf - inf; a device says nothing.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")


def read(tensor, dim=None):
    """The row as a tensor on the CPU, and the flags as an array."""
    row, flags = stats_cuda.read(tensor.to(DEVICE), dim)
    there = [] if flags is None else [flags]
    collected = Collected([row], there)
    return torch.from_numpy(collected.rows()[0]), (collected.flags() or [None])[0]


@settings(deadline=None, max_examples=EXAMPLES)
@given(tensors(FLOATS + INTEGERS).filter(tame))
@example(torch.tensor([np.inf, -np.inf, 0.0], dtype=torch.float16))
def test_tensors_of_any_type_agree_with_numpy(tensor):
    """Of any real tensor, empty and 0-d ones included, each column is NumPy's."""
    check_row(read(tensor)[0], tensor)


@settings(deadline=None, max_examples=EXAMPLES)
@given(tensors(FLOATS).filter(tame), st.randoms(), st.integers(1, 3))
def test_layout_does_not_matter(tensor, random, step):
    """A permuted view with gaps is read as the values that it shows."""
    order = random.sample(range(tensor.dim()), tensor.dim())
    view = tensor.to(DEVICE).permute(order)[tuple(slice(None, None, step) for _ in order)]
    check_row(read(view)[0], view.cpu())


def large(count, dtype):
    """Several parts, with something that is not finite, zeros and denormals."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(count, generator=generator).mul(100).to(dtype)
    values[100:200] = 0
    if dtype.is_floating_point:
        values[5000:5003] = torch.tensor([np.nan, np.inf, -np.inf])
        values[6000:6002] = torch.tensor([2.0**-126, 2.0**-130]).to(dtype)
    return values


COUNT = 3_000_000 if DEVICE == "cuda" else 30_000


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int32, torch.uint8, torch.bool])
@pytest.mark.parametrize("count", [8192, 8193, 4 * 2048 + 1, COUNT])
def test_large_tensors_agree_with_the_fallback(dtype, count):
    """Parts, the tail and the sample fall as elsewhere: every whole number is the same."""
    tensor = large(count, dtype)
    found, expected = read(tensor)[0].numpy(), stats_torch.summary_row(tensor).numpy()
    rest = [i for i in range(WIDTH) if i not in SUMS]
    np.testing.assert_array_equal(found[rest], expected[rest])
    scale = np.sqrt(expected[COLUMN["count"]] * expected[COLUMN["sumsq"]])
    np.testing.assert_allclose(found[SUMS], expected[SUMS], rtol=1e-12, atol=1e-13 * scale)


def test_a_row_is_the_same_bits_each_time():
    """Parts are added up in their order, whichever of them is done first."""
    tensor = large(COUNT, torch.float32).to(DEVICE)
    rows = rows_of([stats_cuda.read(tensor)[0] for _ in range(5)])
    assert len({row.tobytes() for row in rows}) == 1


def test_channels_last_is_read_where_it_lies(monkeypatch):
    """A dense tensor in another order of dimensions is not copied; one with gaps is."""
    copied = []
    copy = stats_cuda._without_gaps
    monkeypatch.setattr(stats_cuda, "_without_gaps", lambda x: copied.append(x) or copy(x))
    images = torch.randn(2, 3, 5, 7).to(DEVICE, memory_format=torch.channels_last)
    check_row(read(images)[0], images.cpu())
    assert not copied
    check_row(read(images[..., 1:])[0], images[..., 1:].cpu())
    assert len(copied) == 1


SHAPES = [(4, 70, 9, 11), (3, 5), (2, 1000), (6, 7, 40), (1, 3, 64, 64)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_silent_channels_are_found(shape, layout, dtype):
    """A channel without a number other than 0 is silent; -0.0 is 0, and NaN speaks."""
    generator = torch.Generator().manual_seed(1)
    tensor = torch.randn(shape, generator=generator).to(dtype)
    if layout == "channels_last" and tensor.dim() == 4:
        tensor = tensor.to(memory_format=torch.channels_last)
    elif layout == "transposed":
        tensor = tensor.transpose(0, -1)
    for dim in range(tensor.dim()):
        spoken = tensor.clone()
        size = spoken.shape[dim]
        silent = torch.randperm(size, generator=generator)[: size // 2]
        spoken.index_fill_(dim, silent, -0.0)
        lone = spoken.select(dim, int(silent[0]) if len(silent) else 0)
        lone[(-1,) * lone.dim()] = torch.nan  # alone
        others = [d for d in range(spoken.dim()) if d != dim]
        expected = (spoken != 0).any(dim=others) if others else spoken != 0
        row, flags = read(spoken, dim)
        assert flags.tolist() == expected.tolist()
        assert torch.equal(row, read(spoken)[0])


def test_more_channels_than_a_page_holds(monkeypatch):
    """A vocabulary's worth of channels gets memory of its own."""
    monkeypatch.setattr(pages, "FLAGS", 8 * 4)
    tensor = torch.randn(3, 50)
    tensor[:, 7] = 0
    _, flags = stats_cuda.read(tensor.to(DEVICE), 1)
    assert isinstance(flags, torch.Tensor)
    assert flags.cpu().tolist() == [i != 7 for i in range(50)]


@pytest.mark.parametrize("dtype", FLOATS)
def test_tensors_read_together_have_the_rows_of_each(dtype):
    """Company does not change a bit; copies are exact, differences those of torch."""
    a = large(20_000, dtype).nan_to_num(0, 1, 2).to(DEVICE)
    b = torch.randn(7).to(DEVICE, dtype)
    unaligned = a[3:9000]
    kept = torch.empty_like(a)
    many = stats_cuda.Many()
    many.add(a, copy_to=kept.data_ptr())
    many.add(b)
    many.add(unaligned)
    rows = rows_of(many.rows())
    alone = rows_of([stats_cuda.read(x)[0] for x in (a, b, unaligned)])
    np.testing.assert_array_equal(rows, alone)
    assert torch.equal(kept, a)
    moved = a * 1.01
    many = stats_cuda.Many()
    many.add(moved, minus=kept.data_ptr())
    wide = torch.promote_types(dtype, torch.float32)
    alone = rows_of([stats_cuda.read(moved.to(wide) - a.to(wide))[0]])
    np.testing.assert_array_equal(rows_of(many.rows()), alone)


def test_a_full_page_is_followed_by_another(monkeypatch):
    """More rows than fit into a page are in several, and none is lost."""
    monkeypatch.setattr(pages, "ROWS", 4)
    tensors_ = [torch.full((3,), float(i)).to(DEVICE) for i in range(10)]
    rows = rows_of([stats_cuda.read(tensor)[0] for tensor in tensors_])
    np.testing.assert_array_equal(rows[:, COLUMN["max"]], range(10))


def test_rows_of_a_page_that_was_sent_can_be_sent_again():
    """Two watches share a page: each gets its rows, whoever asks first."""
    one, other = (stats_cuda.read(torch.full((2,), x).to(DEVICE))[0] for x in (1.0, 2.0))
    assert one.page is other.page
    assert rows_of([one])[0][COLUMN["max"]] == 1
    assert stats_cuda.read(torch.ones(2).to(DEVICE))[0].page is not one.page
    assert rows_of([other])[0][COLUMN["max"]] == 2


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_nothing_waits_for_the_device():
    """Reading, sending and asking whether it has come are allowed where waiting is an error."""
    tensor, weight = torch.randn(100, 70, device="cuda"), torch.randn(9, 9, device="cuda")

    def sent():
        row, flags = stats_cuda.read(tensor, 1)
        many = stats_cuda.Many()
        many.add(weight)
        return Collected([row, *many.rows()], [flags])

    sent().rows()  # all kernels are compiled, and pinned memory is taken
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)  # about a second, in which the host surely comes to the end
    torch.cuda.set_sync_debug_mode("error")
    try:
        collected = sent()
        assert not collected.here
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_describes(collected.rows()[0], tensor.cpu())
    assert collected.here


def tensors_with_sizes():
    """Dense and with gaps, of no dimension and of six, without elements, of eight bits."""
    x = torch.randn(2, 3, 2, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    yield x
    yield x[:, 1:, 0].bfloat16()
    yield x.permute(5, 1, 0, 2, 4, 3).double()
    yield torch.tensor(3.5)
    yield torch.zeros(0, 4)
    yield large(70_000, torch.float16)
    yield x.to(torch.float8_e4m3fn)


@pytest.mark.parametrize("tensor", [*tensors_with_sizes()], ids=lambda t: f"{t.dtype} {t.dim()}")
def test_a_row_of_its_own_is_that_of_a_page(tensor):
    """What a graph reads has the bits of what is read eagerly, and the sizes behind it."""
    found = stats_cuda.row_with_sizes(tensor.to(DEVICE)).cpu()
    np.testing.assert_array_equal(found[:WIDTH], read(tensor)[0])
    sizes = [*tensor.shape, *[-1] * (stats_torch.SIZES - tensor.dim())]
    assert found[WIDTH:].tolist() == sizes


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_a_cuda_graph_reads_again():
    """A row that is part of a CUDA graph is that of the values at each replay."""
    x = torch.zeros(3, 50_000, device=DEVICE)
    stats_cuda.row_with_sizes(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        row = stats_cuda.row_with_sizes(x)
    for seed in range(3):
        x.copy_(torch.randn(3, 50_000, generator=torch.Generator().manual_seed(seed)))
        torch.empty(pages.PAGE, dtype=torch.float64, device=DEVICE).fill_(7.0)  # others go on
        graph.replay()
        np.testing.assert_array_equal(row[:WIDTH].cpu(), read(x.cpu())[0])
