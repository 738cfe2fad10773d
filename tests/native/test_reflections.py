import pytest
import torch

from lampwork._native import reflections, reflections_torch

compiled = pytest.mark.skipif(reflections._multiply is None, reason="built without a C compiler")
MAKERS = [pytest.param(reflections.orthonormal_columns, id="c", marks=compiled)]
MAKERS += [pytest.param(reflections_torch.orthonormal_columns, id="torch")]

# Beside blocks of 96 and 128, tiles of 4 and 64, and 48 columns at a time.
SHAPES = [(1, 1), (4, 3), (5, 5), (96, 96), (97, 97), (201, 198), (390, 50), (150, 129)]


def _gaussian(rows, columns):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows + columns))


def _drawn_from(gauss):
    def draw(block, row, column):
        block.copy_(gauss[row : row + block.shape[0], column : column + block.shape[1]])

    return draw


def _one_by_one(gauss):
    """The same product in float64, a reflection at a time from the last to the first."""
    q = torch.eye(*gauss.shape, dtype=torch.float64)
    for i in reversed(range(gauss.shape[1])):
        v = gauss[i:, i].double()
        sign = 1.0 if v[0] < 0 else -1.0
        v[0] -= sign * v.norm()
        v /= v.norm()
        q[i:, i] *= sign
        q[i:, i:] -= 2.0 * torch.outer(v, v @ q[i:, i:])
    return q


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_of_reflections_are_reflections_one_by_one(make, shape):
    """To some units in the last place of float32, whatever was in the memory before."""
    gauss = _gaussian(*shape)
    q = make(torch.full(shape, torch.nan), _drawn_from(gauss))
    torch.testing.assert_close(q.double(), _one_by_one(gauss), rtol=0, atol=2e-6)


@pytest.mark.parametrize("make", MAKERS)
def test_layout_counts_only_for_where_values_go(make):
    """By columns, by rows with gaps, every second row and column; what lies between stays."""
    gauss = _gaussian(150, 129)
    plain = make(torch.empty(150, 129), _drawn_from(gauss))
    for rows, columns in (((131, 155), True), ((155, 131), False)):
        whole = torch.full(rows, 7.0)
        q = (whole.T if columns else whole)[3:153, 1:130]
        assert torch.equal(make(q, _drawn_from(gauss)), plain)
        assert (whole == 7.0).sum() == whole.numel() - plain.numel()
    whole = torch.full((300, 258), 7.0)
    assert torch.equal(make(whole[::2, ::2], _drawn_from(gauss)), plain)
    assert (whole == 7.0).sum() == whole.numel() - plain.numel()


@pytest.mark.parametrize("make", MAKERS)
def test_threads_do_not_count(make):
    """Neither their number nor who takes which columns: to the last bit."""
    gauss = _gaussian(330, 301)
    found = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        found.append(make(torch.empty(330, 301), _drawn_from(gauss)))
    torch.set_num_threads(1)
    assert all(torch.equal(one, found[0]) for one in found)


@compiled
def test_writing_counts_as_a_change_for_autograd():
    """A matrix that a graph has saved cannot be filled unnoticed."""
    q = torch.ones(4, 4)
    loss = (q.clone().requires_grad_() @ q).sum()
    reflections.orthonormal_columns(q, _drawn_from(_gaussian(4, 4)))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("make", MAKERS)
def test_tensors_of_inference_mode_are_filled(make):
    """They have no version to count up."""
    gauss = _gaussian(5, 3)
    with torch.inference_mode():
        q = make(torch.empty(5, 3), _drawn_from(gauss))
        torch.testing.assert_close(q.double(), _one_by_one(gauss), rtol=0, atol=2e-6)


@compiled
@pytest.mark.parametrize(
    ("rows", "columns", "size", "message"),
    [(3, 4, 12, "more than rows"), (3, 0, 0, "no columns"), (8, 8, 63, "not the reflections")],
)
def test_the_kernel_refuses_what_does_not_fit(rows, columns, size, message):
    """Before it reads or writes anything."""
    with pytest.raises(ValueError, match=message):
        reflections._multiply(0, size, 0, rows, columns, columns, 1, 1)
