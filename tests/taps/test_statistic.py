"""What can be measured of a tensor, and which channels are silent."""

import pytest
import torch
from torch import nn

from lampwork._core.summary import COLUMN
from lampwork._native.stats import summary_row
from lampwork.taps import statistic
from lampwork.taps.statistic import alive, all_zero, channel_dim, has_1d_convolutions, rows_of


def measure(tensor):
    """The row as a tensor."""
    row = statistic.measure(tensor)
    return None if row is None else torch.from_numpy(rows_of([row])[0])


def test_a_dense_tensor_is_measured_by_the_kernel():
    """The row of a plain tensor is the kernel's, and never requires grad."""
    x = torch.randn(3, 4, requires_grad=True)
    row = measure(x)
    assert torch.equal(row, summary_row(x))
    assert not row.requires_grad


def test_of_a_sparse_tensor_the_stored_values_are_measured():
    """Entries that were given twice are added up first."""
    sparse = torch.sparse_coo_tensor([[0, 2, 2]], [1.0, 2.0, 3.0], (5,), check_invariants=True)
    assert torch.equal(measure(sparse), summary_row(torch.tensor([1.0, 5.0])))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_of_a_complex_tensor_both_parts_are_measured(dtype):
    """Real and imaginary parts count as two numbers, also where conjugation is pending."""
    z = torch.tensor([1 + 2j, -3j], dtype=dtype)
    assert torch.equal(measure(z), summary_row(torch.view_as_real(z)))
    assert torch.equal(measure(z.conj()), summary_row(torch.view_as_real(z.conj_physical())))
    assert torch.equal(measure(z.conj().imag), summary_row(torch.tensor([-2.0, 3.0])))


def test_bool_and_half_tensors_are_measured():
    """Whatever holds numbers has a row."""
    assert measure(torch.tensor([True, False]))[COLUMN["sum"]] == 1
    for dtype in (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        assert measure(torch.ones(3).to(dtype))[COLUMN["sum"]] == 3


@pytest.mark.filterwarnings("ignore")  # of torch, about prototypes and deprecations
def test_what_holds_no_numbers_has_no_row():
    """Meta, quantised, packed and nested tensors and other layouts give None and no error."""
    nothing = [
        torch.ones(2, device="meta"),
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        torch.eye(2).to_sparse_csr(),
        torch.eye(2).to_mkldnn(),
        torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    ]
    assert [measure(tensor) for tensor in nothing] == [None] * len(nothing)


def test_inside_of_vmap_nothing_is_measured():
    """A tensor of one sample of torch.vmap cannot be read; one of torch.func.grad can."""
    rows = []

    def loss(x):
        rows.append(measure(x))
        return x.square().sum()

    x = torch.ones(3, 2)
    torch.vmap(loss)(x)
    torch.vmap(torch.func.grad(loss))(x)
    assert rows == [None, None]
    torch.func.grad(loss)(x)
    assert rows[2][COLUMN["sum"]] == 6


def test_all_zero_tells_of_any_layout():
    """Dense, sparse and complex tensors are told from zero; what is unreadable counts as it."""
    for zero in (torch.zeros(3), torch.zeros(3).to_sparse(), torch.zeros(2, dtype=torch.cfloat)):
        assert all_zero(zero)
    for other in (torch.eye(2), torch.eye(2).to_sparse(), torch.tensor([1j]).conj()):
        assert not all_zero(other)
    assert not all_zero(torch.tensor([torch.nan]))
    assert all_zero(torch.ones(2, device="meta"))


@pytest.mark.parametrize(
    ("shape", "channels_first", "dim"),
    [
        ((8,), False, None),
        ((8, 3), False, 1),
        ((8, 3), True, 1),
        ((8, 7, 3), False, 2),
        ((8, 3, 7), True, 1),
        ((8, 3, 7, 7), False, 1),
        ((8, 3, 7, 7, 7), False, 1),
        ((0, 3), False, None),
    ],
)
def test_channels_are_where_the_layers_put_them(shape, channels_first, dim):
    """Images have channels in dimension 1, vectors and tokens in the last; no batch has none."""
    assert channel_dim(torch.zeros(shape), channels_first=channels_first) == dim


def test_a_sparse_output_has_no_channels():
    """Silence is not looked for in sparse tensors, whose zeros are not stored."""
    assert channel_dim(torch.eye(3).to_sparse(), channels_first=False) is None


def test_1d_convolutions_tell_the_meaning_of_three_dimensions():
    """Only a model with 1-D convolutions, norms or pools has 3-D tensors of shape (N, C, L)."""
    assert has_1d_convolutions(nn.Sequential(nn.Sequential(nn.Conv1d(1, 1, 1))))
    assert not has_1d_convolutions(nn.Sequential(nn.Linear(1, 1), nn.Conv2d(1, 1, 1)))


def test_a_channel_is_alive_by_a_single_element():
    """One element that is not zero, NaN included, anywhere in batch and space is enough."""
    x = torch.zeros(2, 4, 3, 3)
    x[1, 0, 2, 2], x[0, 2, 0, 0], x[0, 3] = 1e-30, torch.nan, -0.0
    assert alive(x, 1).tolist() == [True, False, True, False]
    assert alive(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), 1).tolist() == [False, True]
