"""The statistic of one tensor against the obvious computation in NumPy's float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork._core.summary import BINS, COLUMN, EXPONENT_MIN, FIRST_BIN, WIDTH, merge
from lampwork._native import stats, stats_torch
from lampwork._native.stats import SAMPLED_ABOVE, Batch, summary_row
from tests.native.reference import assert_describes

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGERS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool]
SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -2.0, 0.5, 2.0**-126, 1e-45, 3.4e38, -1e-40]
# Multiples of 2^-10 up to 4: float64 rounds none of their squares, and none of their sums.
EXACT = st.lists(
    st.integers(-4096, 4096).map(lambda n: n / 1024)
    | st.sampled_from([-0.0, np.nan, np.inf, -np.inf]),
    max_size=5,
)
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def check(tensor):
    """The rows of kernel and fallback are float64, on their own, and describe the tensor."""
    for implementation in (summary_row, stats_torch.summary_row):
        check_row(implementation(tensor), tensor)


def check_row(row, tensor):
    """A row is as it should be."""
    assert row.dtype == torch.float64
    assert row.shape == (WIDTH,)
    assert not row.requires_grad
    assert row[COLUMN["units"]] == 0
    assert row[COLUMN["dead"]] == (0 if tensor.numel() else np.inf)
    assert_describes(row, tensor)


@st.composite
def tensors(draw, dtypes):
    """A tensor of any small shape whose values include every special one."""
    dtype, shape = draw(st.sampled_from(dtypes)), draw(SHAPES)
    count = int(np.prod(shape))
    if dtype.is_floating_point:
        number = st.floats(width=64 if dtype == torch.float64 else 32) | st.sampled_from(SPECIAL)
    else:
        info = None if dtype == torch.bool else torch.iinfo(dtype)
        number = st.integers(info.min, info.max) if info else st.booleans()
    values = draw(st.lists(number, min_size=count, max_size=count))
    return torch.tensor(values, dtype=dtype).reshape(shape)


def tame(tensor):
    """Whether the sum of squares stays within float64."""
    return not (tensor.double().nan_to_num(0, 0, 0).abs() > 1e140).any()


@settings(deadline=None, max_examples=80)
@given(tensors(FLOATS).filter(tame))
def test_floats_of_any_kind_agree_with_numpy(tensor):
    """Of any float tensor, empty and 0-d ones included, each column is NumPy's."""
    check(tensor)


@settings(deadline=None, max_examples=50)
@given(tensors(INTEGERS))
def test_integers_agree_with_numpy(tensor):
    """Of any integer or bool tensor each column is NumPy's."""
    check(tensor)


@settings(deadline=None, max_examples=50)
@given(tensors(FLOATS).filter(tame), st.randoms(), st.integers(1, 3))
def test_layout_does_not_matter(tensor, random, step):
    """A permuted view with gaps is read as the values that it shows."""
    order = random.sample(range(tensor.dim()), tensor.dim())
    check(tensor.permute(order)[tuple(slice(None, None, step) for _ in order)])


def test_a_pending_negation_is_read():
    """The imaginary part of a conjugate is a view that torch has yet to negate."""
    view = torch.tensor([1 + 2j, -3j]).conj().imag
    assert view.is_neg()
    assert torch.equal(summary_row(view), summary_row(torch.tensor([-2.0, 3.0])))


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_power_of_two_has_its_bin(dtype):
    """2^k is the first number of bin k and the one just below it the last of bin k - 1."""
    powers = torch.tensor([2.0**k for k in range(-14, 15)], dtype=dtype)
    check(powers)
    check(torch.nextafter(powers, torch.zeros(())) if dtype != torch.float16 else -powers)


def test_a_double_below_a_power_of_two_is_not_rounded_up():
    """float64 is binned by its own exponent: 2 - 1e-12 would be 2 in float32."""
    row = summary_row(torch.tensor([2 - 1e-12], dtype=torch.float64))
    assert row[FIRST_BIN - EXPONENT_MIN] == 1


def test_values_beyond_the_bins_go_into_the_ends():
    """Denormals count in the lowest bin and numbers near the end of float64 in the highest."""
    row = summary_row(torch.tensor([5e-324, 1e-45, 1e300, 2.0**24], dtype=torch.float64))
    assert row[FIRST_BIN] == 2
    assert row[FIRST_BIN + BINS - 1] == 2


def test_minus_zero_is_zero():
    """-0.0 counts as zero and has no exponent."""
    row = summary_row(torch.tensor([-0.0, 0.0]))
    assert row[COLUMN["zeros"]] == 2
    assert row[FIRST_BIN:].sum() == 0


def test_squares_do_not_overflow_in_float32():
    """3e38 is finite, its square is not in float32; the sum of squares is taken in float64."""
    row = summary_row(torch.full((3,), 3e38))
    assert row[COLUMN["sumsq"]] == pytest.approx(3 * 9e76)


def test_small_terms_survive_beside_large_ones():
    """A million of 1e-3 beside one 1e4 keep their sum, as float32 would not."""
    x = torch.full((1_000_001,), 1e-3)
    x[0] = 1e4
    assert float(summary_row(x)[COLUMN["sum"]]) == pytest.approx(11_000, rel=1e-7)


def test_a_count_beyond_float32_is_exact():
    """2^24 + 1 elements are counted to the last one."""
    row = summary_row(torch.ones(1, dtype=torch.int8).expand(2**24 + 1))
    assert row[COLUMN["count"]] == 2**24 + 1


def test_the_default_dtype_does_not_matter():
    """Under a default dtype of float16 a count of 100,000 is no overflow."""
    x = torch.ones(100_000, dtype=torch.float32)
    torch.set_default_dtype(torch.float16)
    try:
        row = summary_row(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(row, summary_row(x))
    assert row[COLUMN["count"]] == 100_000


def test_the_default_device_does_not_matter():
    """Inside a region of another default device a tensor is read where it is."""
    x = torch.randn(10)
    with torch.device("meta"):
        row = summary_row(x)
    assert torch.equal(row, summary_row(x))


def test_autocast_does_not_matter():
    """Inside an autocast region the row is the same, to the last bit."""
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = summary_row(x)
    assert torch.equal(inside, summary_row(x))


def test_the_tensor_is_only_read():
    """Neither values, nor the version counter, nor the random state change."""
    x = torch.randn(50, requires_grad=True, generator=torch.Generator().manual_seed(0))
    before, version, state = x.detach().clone(), x._version, torch.get_rng_state()
    summary_row(x)
    assert torch.equal(x, before)
    assert x._version == version
    assert torch.equal(torch.get_rng_state(), state)


def test_inference_tensors_are_read():
    """A tensor made under inference_mode has a row outside of it."""
    with torch.inference_mode():
        x = torch.ones(3)
    assert summary_row(x)[COLUMN["sum"]] == 3


def test_an_empty_tensor_is_the_identity_of_merging():
    """The row of no elements changes nothing when it is merged."""
    row = summary_row(torch.randn(5)).numpy()
    np.testing.assert_array_equal(merge(row, summary_row(torch.empty(0, 3)).numpy()), row)


@pytest.mark.parametrize("implementation", [summary_row, stats_torch.summary_row])
def test_the_exponents_of_a_large_tensor_are_estimated(implementation):
    """Above the limit the histogram is that of a sample, and every other column is exact."""
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randn(600, 1024, generator=generator).relu()
    tensor[0, :3] = torch.tensor([np.nan, np.inf, -np.inf])
    assert tensor.numel() > 4 * SAMPLED_ABOVE
    row = implementation(tensor).numpy()

    finite = tensor[tensor.isfinite()].double().numpy()
    _, exponents = np.frexp(finite[finite != 0])
    exact = np.bincount(np.clip(exponents - 1 - EXPONENT_MIN, 0, BINS - 1), minlength=BINS)
    share = exact / len(finite)
    # Four standard deviations of a binomial of the sample's size, and one element of it.
    sample = SAMPLED_ABOVE / 2
    margin = 4 * np.sqrt(share * (1 - share) / sample) + 1 / sample
    np.testing.assert_array_less(np.abs(row[FIRST_BIN:] / len(finite) - share), margin)

    assert row[COLUMN["zeros"]] == (finite == 0).sum()
    assert [row[COLUMN[name]] for name in ("nan", "posinf", "neginf")] == [1, 1, 1]
    assert row[COLUMN["max"]] == finite.max()
    np.testing.assert_allclose(row[COLUMN["sum"]], finite.sum(), rtol=1e-12)


needs_kernels = pytest.mark.skipif(stats._kernels is None, reason="built without a compiler")

LARGE = 300_000


def large(dtype=torch.float32):
    """Several chunks of the kernel, with something that is not finite in one block."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(LARGE, generator=generator).mul(100).to(dtype)
    if dtype.is_floating_point:
        values[5000:5003] = torch.tensor([np.nan, np.inf, -np.inf])
    return values


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int32, torch.uint8])
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x.view(10, 30, 50, 20).permute(0, 3, 1, 2),
        lambda x: x.view(600, 500)[:, 1:-1],
        lambda x: x.view(600, 500)[::3, ::7].t(),
        lambda x: x[:600].view(1, 600, 1).expand(100, 600, 3),
    ],
    ids=["dense", "channels_last", "cropped", "gaps", "expanded"],
)
def test_kernel_and_fallback_agree_on_large_tensors(dtype, view):
    """Blocks, chunks, gaps and the sample fall alike: every whole number is the same."""
    tensor = view(large(dtype))
    found, expected = summary_row(tensor).numpy(), stats_torch.summary_row(tensor).numpy()
    sums = [COLUMN["sum"], COLUMN["sumsq"]]
    rest = [i for i in range(WIDTH) if i not in sums]
    np.testing.assert_array_equal(found[rest], expected[rest])
    scale = np.sqrt(expected[COLUMN["count"]] * expected[COLUMN["sumsq"]])
    np.testing.assert_allclose(found[sums], expected[sums], rtol=1e-12, atol=1e-13 * scale)


@needs_kernels
def test_alignment_does_not_change_a_bit():
    """The same values have the same row wherever they lie in memory."""
    values = large()
    memory = torch.empty(LARGE + 16)
    for shift in range(0, 16, 3):
        moved = memory[shift : shift + LARGE].copy_(values)
        assert torch.equal(summary_row(moved), summary_row(values))


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("dtype", FLOATS)
def test_tensors_read_together_have_the_rows_of_each(monkeypatch, threads, dtype):
    """Neither company nor threads change a bit; copies are exact, differences those of torch."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(stats, "_TEAM_FROM", 0)
    monkeypatch.setattr(stats, "_PAST_CACHES_FROM", 0)
    a, b = large(dtype).nan_to_num(0, 1, 2), torch.randn(7).to(dtype)
    kept = torch.empty_like(a)
    batch = Batch()
    batch.add(a, old=kept.data_ptr(), keep=True)
    batch.add(b)
    rows = batch.rows()
    for row, tensor in zip(rows, (a, b), strict=True):
        assert row == stats.read(tensor)
    assert torch.equal(kept, a)
    moved = a * 1.01
    moved[3] = torch.nan
    change = stats.read(moved.to(wide(dtype)) - a.to(wide(dtype)))
    batch = Batch()
    batch.add(moved, old=kept.data_ptr(), compare=True)
    assert batch.rows() == [change]
    assert torch.equal(kept, a)
    batch = Batch()
    batch.add(moved, old=kept.data_ptr(), compare=True, keep=True)
    batch.add(b)
    assert batch.rows() == [change, stats.read(a), stats.read(b)]
    assert torch.equal(kept.nan_to_num(0), moved.nan_to_num(0))


def wide(dtype):
    """The type in which differences are taken."""
    return torch.promote_types(dtype, torch.float32)


@needs_kernels
def test_a_sample_tells_what_was_changed():
    """Values scaled, or a single small tensor touched, are not the same; equal bits are."""
    old = [torch.randn(100_000), torch.randn(1000, 7), torch.randn(5), torch.tensor([torch.nan])]
    new = [tensor.clone() for tensor in old]
    new[1] *= 1.0001
    new[2][4] = 0
    batch = Batch()
    for before, after in zip(old, new, strict=True):
        batch.add(after, old=before.data_ptr())
    assert batch.same() == [True, False, False, True]


def test_a_batch_takes_dense_floats_only():
    """Gaps, integers, other devices and pending negations are read one by one."""
    assert Batch.takes(torch.ones(2, 3)) == (stats._kernels is not None)
    others = [
        torch.ones(4)[::2],
        torch.ones(3, dtype=torch.int64),
        torch.ones(3, device="meta"),
        torch.empty(0),
        torch.tensor([1 + 2j]).conj().imag,
        torch.eye(2).to_sparse(),
    ]
    assert not any(map(Batch.takes, others))


@settings(deadline=None, max_examples=50)
@given(tensors(FLOATS + INTEGERS).filter(lambda t: t.dim() > 0 and t.numel() > 0), st.randoms())
def test_silent_channels_are_those_of_torch(tensor, random):
    """A channel without a number other than 0, of any type and layout, is silent; NaN speaks."""
    order = random.sample(range(tensor.dim()), tensor.dim())
    tensor = (tensor * (torch.rand(tensor.shape) < 0.3).to(tensor.dtype)).permute(order)
    dim = random.randrange(tensor.dim())
    others = [d for d in range(tensor.dim()) if d != dim]
    expected = (tensor != 0).any(dim=others) if others else tensor != 0
    assert list(stats.alive(tensor, dim)) == expected.tolist()


@needs_kernels  # torch has the sum of squares as the square of a root
@settings(deadline=None, max_examples=50)
@given(EXACT, EXACT)
def test_rows_of_parts_merge_to_the_row_of_the_whole(left, right):
    """Bit by bit where no sum is rounded, NaN and the infinities among them."""
    parts = [summary_row(torch.tensor(x, dtype=torch.float32)).numpy() for x in (left, right)]
    whole = summary_row(torch.tensor(left + right, dtype=torch.float32)).numpy()
    np.testing.assert_array_equal(merge(*parts), whole)
