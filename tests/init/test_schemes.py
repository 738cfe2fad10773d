import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from lampwork._core.errors import InputError
from lampwork.init import schemes, spread
from lampwork.init.registry import expected_std, parse

NEED_MORE = ("constant_", "delta_orthogonal_", "dirac_", "fixup_branch_", "gpt2_residual_")


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# fan_in 300, fan_out 200
SHAPE = (200, 300)
DISTRIBUTIONS = {
    ("normal_", ("mean", 0.5), ("std", 0.1)): stats.norm(0.5, 0.1),
    ("uniform_", ("a", -0.2), ("b", 0.3)): stats.uniform(-0.2, 0.5),
    ("trunc_normal_", ("std", 0.02)): stats.truncnorm(-2, 2, 0, 0.02),
    ("trunc_normal_", ("mean", 1.0), ("a", 1.0), ("b", 3.0)): stats.truncnorm(1, 3, 1, 1),
    ("trunc_normal_", ("a", -math.inf), ("b", 0.5)): stats.truncnorm(-math.inf, 0.5),
    ("xavier_uniform_",): stats.uniform(-math.sqrt(6 / 500), 2 * math.sqrt(6 / 500)),
    ("xavier_normal_", ("gain", 2.0)): stats.norm(0, 2 * math.sqrt(2 / 500)),
    ("kaiming_uniform_",): stats.uniform(-math.sqrt(6 / 300), 2 * math.sqrt(6 / 300)),
    ("kaiming_normal_",): stats.norm(0, math.sqrt(2 / 300)),
    ("kaiming_normal_", ("mode", "fan_out")): stats.norm(0, math.sqrt(2 / 200)),
    ("kaiming_normal_", ("a", 0.5)): stats.norm(0, math.sqrt(2 / 1.25 / 300)),
    ("kaiming_normal_", ("nonlinearity", "tanh")): stats.norm(0, 1.5925374 / math.sqrt(300)),
    ("lecun_normal_",): stats.norm(0, 1 / math.sqrt(300)),
    ("lecun_uniform_",): stats.uniform(-math.sqrt(3 / 300), 2 * math.sqrt(3 / 300)),
    ("embedding_",): stats.norm(0, 0.02),
    ("gpt2_residual_", ("branches", 24)): stats.norm(0, 0.02 / math.sqrt(24)),
    ("fixup_branch_", ("branches", 16), ("layers", 3)): stats.norm(0, 0.5 * math.sqrt(2 / 300)),
    ("mup_weight_",): stats.norm(0, 1 / math.sqrt(300)),
    ("mup_weight_", ("part", "readout")): stats.norm(0, 1 / 300),
    ("mup_weight_", ("part", "input")): stats.norm(0, 1),
    ("siren_",): stats.uniform(-math.sqrt(6 / 300) / 30, 2 * math.sqrt(6 / 300) / 30),
    ("siren_", ("first", True)): stats.uniform(-1 / 300, 2 / 300),
}


@pytest.mark.parametrize("case", DISTRIBUTIONS, ids=lambda case: f"{case[0]}{dict(case[1:])}")
def test_a_random_scheme_has_its_distribution(case):
    """Kolmogorov-Smirnov over 60,000 values against scipy's distribution."""
    name, *options = case
    values = getattr(schemes, name)(torch.empty(SHAPE), generator=_seeded(3), **dict(options))
    assert stats.kstest(values.flatten().numpy(), DISTRIBUTIONS[case].cdf).pvalue > 1e-3


@pytest.mark.parametrize("case", DISTRIBUTIONS, ids=lambda case: f"{case[0]}{dict(case[1:])}")
def test_the_standard_deviation_told_is_the_one_of_the_distribution(case):
    """What a plan prints as std is that of the reference distribution."""
    name, *options = case
    scheme = parse((name.rstrip("_"), dict(options)))
    told = expected_std(scheme, SHAPE, fan_in=300, fan_out=200)
    assert told == pytest.approx(DISTRIBUTIONS[case].std(), rel=1e-5)


def test_constant_schemes_fill_with_their_constant():
    """Zeros, ones and a constant, in place and returned."""
    tensor = torch.empty(2, 3)
    assert schemes.zeros_(tensor) is tensor
    assert tensor.eq(0).all()
    assert schemes.ones_(tensor).eq(1).all()
    assert schemes.constant_(tensor, 0.5).eq(0.5).all()


def test_the_values_of_kaiming_normal_are_these_for_ever():
    """Seed 0 on (2, 3), pinned."""
    values = schemes.kaiming_normal_(torch.empty(2, 3), generator=_seeded())
    pinned = [0.72145545, 1.0526506, 0.8293882, -0.77202046, -1.3813331, 0.7629534]
    assert values.flatten().tolist() == pytest.approx(pinned, rel=1e-7)


def test_given_fans_take_the_place_of_the_shape():
    """The same draw, scaled by the fan that was given."""
    by_shape = schemes.kaiming_normal_(torch.empty(4, 8), generator=_seeded())
    given = schemes.kaiming_normal_(torch.empty(4, 8), generator=_seeded(), fan_in=2)
    torch.testing.assert_close(given, 2 * by_shape)
    both = schemes.xavier_uniform_(torch.empty(4, 8), generator=_seeded(), fan_in=24, fan_out=24)
    torch.testing.assert_close(
        2 * both, schemes.xavier_uniform_(torch.empty(4, 8), generator=_seeded())
    )


def test_a_vector_can_be_filled_when_its_fans_are_given():
    """A shape without fans is no hindrance where the caller knows them."""
    values = schemes.kaiming_normal_(torch.empty(10_000), generator=_seeded(), fan_in=2)
    assert values.std().item() == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3, 3), (64, 2, 3)])
def test_orthogonal_rows_or_columns_are_orthonormal(shape):
    """Times the gain squared, the smaller Gram matrix is the identity."""
    matrix = schemes.orthogonal_(torch.empty(shape), gain=3.0, generator=_seeded()).flatten(1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, 9.0 * torch.eye(len(gram)), rtol=0, atol=2e-5)
    measured = matrix.square().mean().sqrt().item()
    assert spread.orthogonal(shape, 3.0) == pytest.approx(measured, rel=1e-5)


def test_orthogonal_matrices_are_spread_evenly_over_all_rotations():
    """The first entry of a 3 × 3 rotation is uniform on [−1, 1] (Archimedes)."""
    generator = _seeded()
    firsts = [schemes.orthogonal_(torch.empty(3, 3), generator=generator)[0, 0] for _ in range(800)]
    assert stats.kstest(np.array(firsts), stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_orthogonal_is_the_q_of_the_gaussian_matrix():
    """Drawing reflections outright gives the distribution of QR: moments of the entries of 400."""
    generator = _seeded(5)
    ours = torch.stack(
        [schemes.orthogonal_(torch.empty(4, 3), generator=generator) for _ in range(400)]
    )
    gauss = torch.randn(400, 4, 3, generator=generator)
    q, r = torch.linalg.qr(gauss)
    theirs = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    for i in range(4):
        for j in range(3):
            assert stats.ks_2samp(ours[:, i, j].numpy(), theirs[:, i, j].numpy()).pvalue > 1e-4
    assert (
        stats.ks_2samp(
            (ours[:, 0, 0] * ours[:, 1, 1]).numpy(), (theirs[:, 0, 0] * theirs[:, 1, 1]).numpy()
        ).pvalue
        > 1e-4
    )


@pytest.mark.parametrize("shape", [(300, 260), (150, 290)])
def test_orthogonal_matrices_beyond_one_block_are_orthonormal(shape):
    """Reflections are multiplied up 128 at a time."""
    matrix = schemes.orthogonal_(torch.empty(shape), generator=_seeded()).double()
    gram = matrix @ matrix.T if shape[0] <= shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=gram.dtype), rtol=0, atol=5e-6)


@pytest.mark.parametrize("shape", [(6, 4, 3), (5, 5, 3, 3), (8, 2, 3, 1, 2)])
def test_delta_orthogonal_is_orthogonal_in_the_middle_and_zero_elsewhere(shape):
    """A circular convolution with it keeps the length of its input."""
    weight = schemes.delta_orthogonal_(torch.empty(shape), gain=2.0, generator=_seeded())
    middle = weight[(slice(None), slice(None), *(size // 2 for size in shape[2:]))]
    torch.testing.assert_close(middle.T @ middle, 4.0 * torch.eye(shape[1]), rtol=0, atol=1e-5)
    assert weight.count_nonzero() == middle.numel()
    told = spread.delta_orthogonal(shape, 2.0)
    assert told == pytest.approx(weight.square().mean().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(8, 6), (6, 8), (12, 4, 3, 3)])
def test_looks_linear_is_orthogonal_on_pairs(shape):
    """What pairs of inputs with opposite signs give to pairs of outputs, folded by hand."""
    weight = schemes.looks_linear_(torch.empty(shape), gain=3.0, generator=_seeded())
    assert torch.equal(weight[::2], -weight[1::2])
    assert torch.equal(weight[:, ::2], -weight[:, 1::2])
    folded = weight[::2, ::2].flatten(1)
    gram = folded @ folded.T if len(folded) <= folded.shape[1] else folded.T @ folded
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(len(gram)), rtol=0, atol=1e-5)
    told = spread.looks_linear(shape, 3.0)
    assert told == pytest.approx(weight.square().mean().sqrt().item(), rel=1e-5)


def test_looks_linear_delta_has_its_matrix_in_the_middle():
    """The standard deviation over all taps is the one told."""
    weight = schemes.looks_linear_(torch.empty(8, 6, 3, 5), delta=True, generator=_seeded())
    assert weight.count_nonzero() == 48
    assert weight[:, :, 1, 2].count_nonzero() == 48
    told = spread.looks_linear((8, 6, 3, 5))
    assert told == pytest.approx(weight.square().mean().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("shape", [(6, 4, 3), (4, 6, 3, 3), (4, 4, 3, 5, 3)])
def test_dirac_and_identity_are_torchs(shape, groups):
    """Bit for bit; dirac passes each group's inputs through."""
    ours, theirs = schemes.dirac_(torch.empty(shape), groups), torch.empty(shape)
    assert torch.equal(ours, nn.init.dirac_(theirs, groups))
    assert spread.dirac(shape, groups) == pytest.approx(theirs.std(correction=0).item(), rel=1e-5)
    matrix = torch.empty(shape[:2])
    assert torch.equal(schemes.identity_(matrix.clone()), nn.init.eye_(matrix))


def test_sparse_leaves_the_same_count_in_every_column():
    """Zeros lie in other rows from column to column; the rest is Gaussian."""
    weight = schemes.sparse_(torch.empty(50, 40), 0.33, 0.5, generator=_seeded())
    zeros = weight == 0
    assert zeros.sum(0).tolist() == [17] * 40
    assert len({tuple(column.tolist()) for column in zeros.T}) == 40
    assert stats.kstest(weight[~zeros].numpy(), stats.norm(0, 0.5).cdf).pvalue > 1e-3
    assert torch.equal(weight, schemes.sparse_(torch.empty(50, 40), 0.33, 0.5, _seeded()))


def test_the_padding_row_of_an_embedding_is_zero():
    """And the others keep the values that they have without one."""
    table = schemes.embedding_(torch.empty(6, 4), padding_idx=-2, generator=_seeded())
    plain = schemes.embedding_(torch.empty(6, 4), generator=_seeded())
    assert table[4].eq(0).all()
    assert torch.equal(table[[0, 1, 2, 3, 5]], plain[[0, 1, 2, 3, 5]])


@pytest.mark.parametrize("name", ["normal_", "uniform_", "trunc_normal_", "orthogonal_", "sparse_"])
def test_neither_layout_nor_dtype_counts(name):
    """Transposed in memory, as a slice of a larger tensor, in float64 and bfloat16."""
    function = getattr(schemes, name)
    exact = function(torch.empty(30, 20), generator=_seeded())
    assert torch.equal(function(torch.empty(20, 30).T, generator=_seeded()), exact)
    sliced = torch.zeros(60, 40)
    function(sliced[::2, 10:30], generator=_seeded())
    assert torch.equal(sliced[::2, 10:30], exact)
    assert sliced.count_nonzero() <= 600
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        cast = function(torch.empty(30, 20, dtype=dtype), generator=_seeded())
        assert torch.equal(cast, exact.to(dtype))


def test_on_meta_nothing_is_done():
    """As in torch: a model may be built on meta by code that initialises it."""
    for name in ("normal_", "orthogonal_", "sparse_", "zeros_", "identity_"):
        assert getattr(schemes, name)(torch.empty(4, 4, device="meta")).is_meta


def test_orthogonal_works_in_bfloat16():
    """The factorisation runs in float32, the result is rounded once."""
    rounded = schemes.orthogonal_(torch.empty(6, 6, dtype=torch.bfloat16), generator=_seeded())
    exact = schemes.orthogonal_(torch.empty(6, 6), generator=_seeded())
    assert torch.equal(rounded, exact.bfloat16())


@given(
    a=st.floats(-5, 4.5),
    width=st.floats(0.05, 5),
    mean=st.floats(-3, 3),
    std=st.floats(0.01, 10),
)
@settings(deadline=None, max_examples=60)
def test_a_truncated_normal_never_leaves_its_bounds(a, width, mean, std):
    """Not even in the far tails, and not by rounding more than one float32."""
    values = schemes.trunc_normal_(torch.empty(500), mean, std, a, a + width, _seeded())
    slack = 1e-6 * (abs(mean) + std * (abs(a) + width))
    assert values.min() >= mean + a * std - slack
    assert values.max() <= mean + (a + width) * std + slack
    assert values.isfinite().all()


def test_truncation_is_in_standard_deviations():
    """With std 0.02 the default cuts at ±0.04, where torch's cuts at ±2."""
    values = schemes.trunc_normal_(torch.empty(100_000), std=0.02, generator=_seeded())
    assert values.abs().max() <= 0.04
    torch_values = nn.init.trunc_normal_(torch.empty(100_000), std=0.02, generator=_seeded())
    assert torch_values.abs().max() > 0.06


def test_the_forget_gate_is_the_second_quarter_of_an_lstm_bias():
    """As torch lays out the gates."""
    assert schemes.lstm_bias_(torch.empty(8)).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    values = schemes.lstm_bias_(torch.empty(8), forget=2.0)
    assert spread.lstm_bias((8,), 2.0) == pytest.approx(values.std(correction=0).item())


def test_parameters_can_be_filled_and_empty_tensors_too():
    """No gradient is recorded, and nothing divides by zero."""
    parameter = nn.Parameter(torch.empty(3, 4))
    for name in schemes.__all__:
        if name not in ("gain", "lstm_bias_", *NEED_MORE):
            assert getattr(schemes, name)(parameter).grad_fn is None
            getattr(schemes, name)(torch.empty(0, 4))
            getattr(schemes, name)(torch.empty(4, 0))


def test_the_generator_decides_alone():
    """Torch's global random state is neither read nor moved."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = schemes.orthogonal_(torch.empty(4, 4), generator=_seeded())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(one, schemes.orthogonal_(torch.empty(4, 4), generator=_seeded()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: schemes.normal_(t, std=-1.0), r"cannot be negative \(std=-1.0\)"),
        (lambda t: schemes.uniform_(t, 1.0, 0.0), r"wrong way round \(a=1.0, b=0.0\): pass a ≤ b"),
        (lambda t: schemes.trunc_normal_(t, a=2.0, b=2.0), "a=2.0 and b=2.0 .*pass a below b"),
        (lambda t: schemes.kaiming_normal_(t, mode="fan_avg"), "'fan_avg': pass 'fan_in' or"),
        (lambda t: schemes.kaiming_normal_(t[0]), r"shape of \(3,\) tells no fan_in: pass fan_in="),
        (lambda t: schemes.xavier_normal_(t[0], fan_in=3), "tells no fan_out"),
        (lambda t: schemes.orthogonal_(t[0]), r"needs two dimensions or more, the shape is \(3,\)"),
        (lambda t: schemes.delta_orthogonal_(t), r"shape is \(3, 3\): pass \(out, in, \*kernel\)"),
        (lambda t: schemes.delta_orthogonal_(t[:2, :, None]), r"\(2, 3, 1\): use orthogonal, or"),
        (lambda t: schemes.dirac_(t[:, :, None], 2), "3 outputs do not fall into 2 groups: pass"),
        (lambda t: schemes.identity_(t[0]), r"identity fills a matrix, not a shape of \(3,\)"),
        (lambda t: schemes.sparse_(t[0]), r"sparse fills a matrix, not a shape of \(3,\)"),
        (lambda t: schemes.sparse_(t, 1.5), "sparsity=1.5 is no share: pass a number from 0 to 1"),
        (lambda t: schemes.embedding_(t, padding_idx=3), "padding_idx=3 is no row of a table of 3"),
        (lambda t: schemes.gpt2_residual_(t, 0), "branches=0 tells no scale: pass how many"),
        (lambda t: schemes.fixup_branch_(t, 4, 1), r"layers=1\): give zeros to the one layer"),
        (lambda t: schemes.mup_weight_(t, "head"), "no part 'head': pass 'hidden', 'readout' or"),
        (lambda t: schemes.siren_(t, omega=0), "omega=0 is no frequency"),
        (lambda t: schemes.trunc_normal_(t, a=40.0, b=41.0), "a=40.0 and b=41.0 .*closer to 0"),
        (lambda t: schemes.lstm_bias_(t[0]), r"shape is \(3,\): pass a vector of 4 × hidden_size"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_cure(call, message):
    """Each message names the values and says what to pass."""
    with pytest.raises(InputError, match=message):
        call(torch.empty(3, 3))
