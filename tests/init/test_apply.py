import dataclasses

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import lampwork as lw
from lampwork._core.errors import InputError
from lampwork._core.seeds import derive_pair
from lampwork.init.apply import canonical


def _initialised(model, seed=0, **options):
    lw.init.initialize(model, seed=seed, **options)
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_the_values_of_a_named_parameter_are_these_for_ever():
    """Seed 0, kaiming_normal on (2, 3), pinned; also where the CPU has other vector units."""
    values = _initialised(nn.Linear(3, 2), scheme="kaiming_normal")["weight"]
    pinned = [0.59199518, -0.83300036, 1.669845, -0.50981045, -0.24031876, 0.68685144]
    assert values.flatten().tolist() == pytest.approx(pinned, rel=1e-7)


def test_adding_a_layer_leaves_the_values_of_the_others_alone():
    """Each tensor has a stream of its own, named after it."""
    small = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.LSTM(4, 4)})
    large = nn.ModuleDict({"z": nn.Conv2d(1, 2, 3), "b": nn.LSTM(4, 4), "a": nn.Linear(4, 4)})
    one, other = _initialised(small), _initialised(large)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_seeds_and_names_give_different_values():
    """Two layers of one shape differ, and two seeds, and a seed whose low 32 bits are the same."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    first = _initialised(model)
    assert not torch.equal(first["0.weight"], first["1.weight"])
    assert torch.equal(_initialised(model)["0.weight"], first["0.weight"])
    for seed in (1, 2**32):
        assert not torch.equal(_initialised(model, seed=seed)["0.weight"], first["0.weight"])


def test_the_whole_of_seed_and_name_chooses_the_stream():
    """128 bits of a hash of both: a 64-bit seed counts to its last bit, a negative one too."""
    seeds = [0, 1, -1, 2**32, 2**63, 2**63 + 1, 2**64 - 1]
    firsts = {_initialised(nn.Linear(8, 1), seed=seed)["weight"][0, 0].item() for seed in seeds}
    assert len(firsts) == len(seeds)
    assert derive_pair(0, "init", "weight") == (17485700004419576727, 16285305086743456654)


def test_wrappers_do_not_count_in_a_name():
    """A compiled or data-parallel model gets what the bare one gets."""
    plain = _initialised(nn.Sequential(nn.Linear(3, 3)))["0.weight"]
    assert canonical("_orig_mod.0.weight", nn.Linear(3, 3)) == "0.weight"
    parallel = nn.DataParallel(nn.Sequential(nn.Linear(3, 3)))
    assert torch.equal(_initialised(parallel)["module.0.weight"], plain)
    assert canonical("module.a", nn.ModuleDict({"module": nn.Linear(1, 1)})) == "module.a"


def test_neither_global_random_state_nor_default_dtype_nor_device_count():
    """The same values in a float64 world on another default device."""
    expected = _initialised(nn.Linear(5, 5))["weight"]
    torch.manual_seed(99)
    before = torch.get_rng_state()
    model = nn.Linear(5, 5)
    torch.manual_seed(99)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            lw.init.initialize(model)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(model.weight, expected)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_another_dtype_holds_the_same_values_rounded(dtype):
    """Drawn in float32, then cast: orthogonal and truncated values too."""
    for scheme in ("kaiming_normal", "orthogonal", "trunc_normal"):
        exact = _initialised(nn.Linear(6, 5), scheme=scheme)["weight"]
        other = _initialised(nn.Linear(6, 5).to(dtype), scheme=scheme)["weight"]
        assert torch.equal(other, exact.to(dtype))


def test_the_memory_layout_does_not_count():
    """Channels last, as vision models are kept, and a weight stored transposed."""
    exact = _initialised(nn.Conv2d(8, 4, 3))["weight"]
    layer = nn.Conv2d(8, 4, 3).to(memory_format=torch.channels_last)
    assert torch.equal(_initialised(layer)["weight"], exact)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)

    layer = nn.Linear(4, 6)
    exact = _initialised(layer)["weight"]
    layer.weight = nn.Parameter(torch.zeros(4, 6).T)
    assert torch.equal(_initialised(layer)["weight"], exact)


def test_gates_and_groups_are_orthogonal_one_by_one():
    """Each block along the first dimension is a matrix of its own."""
    lstm = nn.LSTM(3, 6)
    lw.init.initialize(lstm)
    for gate in lstm.weight_hh_l0.detach().chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), rtol=0, atol=1e-5)
    conv = nn.Conv2d(8, 8, 3, groups=4)
    lw.init.initialize(conv, scheme="orthogonal")
    for group in conv.weight.detach().flatten(1).chunk(4):
        torch.testing.assert_close(group @ group.T, torch.eye(2), rtol=0, atol=1e-5)


def test_an_lstm_forgets_nothing_at_the_start():
    """The two biases of torch's LSTM sum to 1 in the forget gate and to 0 elsewhere."""
    lstm = nn.LSTM(3, 2, num_layers=2, bidirectional=True)
    lw.init.initialize(lstm)
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        total = getattr(lstm, f"bias_ih_{suffix}") + getattr(lstm, f"bias_hh_{suffix}")
        assert total.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_a_padding_row_is_zero_under_every_scheme():
    """The row of the padding token never gets a gradient, so it must start at 0."""
    for rules in ([], [("weight", ("normal", {"std": 1.0}))]):
        layer = nn.Embedding(50, 8, padding_idx=-1)
        lw.init.initialize(layer, rules=rules)
        assert layer.weight[49].eq(0).all()
        assert layer.weight[:49].ne(0).all()


def test_a_shared_tensor_is_written_once_under_its_first_name():
    """The same values as the embedding has without the head."""
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5)})
    alone = _initialised(nn.ModuleDict({"embed": nn.Embedding(5, 3)}))
    model["head"].weight = model["embed"].weight
    assert torch.equal(_initialised(model)["embed.weight"], alone["embed.weight"])


def test_tying_and_untying_after_planning_are_followed():
    """Tied since: the first row counts. Untied since: both get the row's values."""
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    plan = lw.init.plan(model)
    plan.apply()
    embedding = model["embed"].weight.detach().clone()
    model["head"].weight = model["embed"].weight
    plan.apply()
    assert torch.equal(model["embed"].weight, embedding)

    tied = lw.init.plan(model)
    model["head"].weight = nn.Parameter(torch.empty(5, 3))
    tied.apply()
    assert torch.equal(model["head"].weight, embedding)


def test_a_model_on_meta_is_planned_made_and_filled():
    """Parameters and running statistics get memory and values at once, whatever was made since."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LSTM(2, 2))
        made = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LSTM(2, 2))
    model[0].weight.no_decay = True
    plan, plan_of_made = lw.init.plan(model), lw.init.plan(made)
    made.to_empty(device="cpu")
    for tensor in (*made.parameters(), *made.buffers()):
        tensor.detach().fill_(77)
    plan.apply()
    plan_of_made.apply()
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LSTM(2, 2))
    expected = _initialised(plain)
    for one in (model, made):
        assert all(torch.equal(value, expected[k]) for k, value in one.named_parameters())
        assert (one[1].running_mean.tolist(), one[1].running_var.tolist()) == ([0, 0], [1, 1])
        assert one[1].num_batches_tracked == 0
        assert torch.equal(one[2](torch.ones(3, 2))[0], plain[2](torch.ones(3, 2))[0])
    assert model[0].weight.no_decay


def test_on_meta_tied_tensors_are_made_once_and_stay_tied():
    """to_empty would untie them; what holds values is not emptied."""
    with torch.device("meta"):
        model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5)})
        model["head"].weight = model["embed"].weight
    model["norm"] = nn.LayerNorm(3)
    plan = lw.init.plan(model, rules=[("norm.weight", "keep")])
    model["norm"].weight.detach().fill_(7.0)
    plan.apply()
    assert model["head"].weight is model["embed"].weight
    assert model["norm"].weight.tolist() == [7, 7, 7]
    alone = _initialised(nn.ModuleDict({"embed": nn.Embedding(5, 3)}))
    assert torch.equal(model["embed"].weight, alone["embed.weight"])


def test_a_parametrised_weight_on_meta_is_made_too():
    """Its raw tensors get memory, and what makes the layer's weight."""
    with torch.device("meta"):
        layer = parametrizations.weight_norm(nn.Linear(6, 5))
    lw.init.plan(layer).apply()
    torch.testing.assert_close(layer.weight, _initialised(nn.Linear(6, 5))["weight"])


def test_the_number_of_threads_does_not_count():
    """Neither for values drawn one by one nor for orthogonal matrices of odd sizes."""
    found = []
    for threads in (1, 2, 3, 4):
        torch.set_num_threads(threads)
        values = _initialised(nn.Linear(400, 300), scheme="normal")["weight"]
        odd = [_initialised(nn.Linear(*s), scheme="orthogonal") for s in ((146, 314), (131, 72))]
        found.append([values, *(matrix["weight"] for matrix in odd)])
    torch.set_num_threads(1)
    assert all(all(map(torch.equal, one, found[0])) for one in found)


def test_a_buffer_that_was_on_meta_and_nobody_fills_is_an_error():
    """Unless a rule says what becomes of it."""
    model = nn.Module()
    model.register_buffer("angles", torch.empty(4, device="meta"))
    plan, told = lw.init.plan(model), lw.init.plan(model, rules=[("angles", "keep")])
    filled = lw.init.plan(model, rules=[("angles", "ones")])
    model.to_empty(device="cpu")
    with pytest.raises(InputError, match=r"'angles' was on meta .*'zeros'.*'keep'. if you fill it"):
        plan.apply()
    model.angles.fill_(3.0)
    told.apply()
    assert model.angles.tolist() == [3, 3, 3, 3]
    filled.apply()
    assert model.angles.tolist() == [1, 1, 1, 1]


def test_buffers_keep_their_values():
    """Running statistics of a trained model are not touched."""
    model = nn.BatchNorm1d(2)
    model.running_mean.fill_(5.0)
    lw.init.initialize(model)
    assert model.running_mean.tolist() == [5.0, 5.0]


def test_frozen_parameters_are_kept_unless_a_rule_names_them():
    """What is not to be trained was given its values by somebody."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).requires_grad_(False)
    before = model[1].weight.clone()
    lw.init.initialize(model, rules=[("0.*", "zeros")])
    assert model[0].weight.eq(0).all()
    assert torch.equal(model[1].weight, before)


def test_integers_and_complex_numbers_can_be_zero():
    """Constants need no real numbers."""
    model = nn.Module()
    model.codes = nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False)
    model.phase = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    lw.init.initialize(model, rules=[("codes", "zeros"), ("phase", "ones")])
    assert (model.codes.tolist(), model.phase.tolist()) == ([0, 0, 0], [1, 1, 1])


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_parametrised_weight_is_written_through_its_parametrisation(norm):
    """The raw tensors get what makes the layer's weight; the optimizer's objects stay."""
    layer = norm(nn.Linear(6, 5)).eval()
    own = [id(parameter) for parameter in layer.parameters()]
    plan = lw.init.plan(layer)
    plan.apply()
    plain = _initialised(nn.Linear(6, 5))["weight"]
    if norm is parametrizations.weight_norm:
        torch.testing.assert_close(layer.weight, plain)
    else:
        assert torch.equal(layer.parametrizations.weight.original, plain)
    assert [id(parameter) for parameter in layer.parameters()] == own
    assert all(parameter.requires_grad for parameter in layer.parameters())


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize("build", [lambda: nn.Linear(6, 5), lambda: nn.Conv2d(3, 4, 2)])
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_a_weight_of_the_older_hooks_is_written_through_them(norm, build):
    """What comes out of the next pass is what was planned, and not what the hook remembers."""
    torch.manual_seed(0)
    layer, plain = norm(build()).eval(), build().eval()
    x = torch.randn(2, *((6,) if isinstance(plain, nn.Linear) else (3, 5, 5)))
    plan = lw.init.plan(layer, x)
    assert {row.name for row in plan.rows if row.role != "buffer"} == {"weight", "bias"}
    plan.apply()
    lw.init.initialize(plain, x)
    if norm is nn.utils.spectral_norm:
        largest = torch.linalg.matrix_norm(plain.weight.detach().flatten(1), 2)
        plain.weight.detach().div_(largest)
    torch.testing.assert_close(layer.weight, plain.weight.detach(), rtol=0.05, atol=0.02)
    torch.testing.assert_close(layer(x), plain(x), rtol=0.05, atol=0.05)
    layer(x).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, parametrizations.weight_norm])
def test_a_norm_of_zero_is_refused_as_it_has_no_direction(norm):
    """Its weight would be NaN."""
    with pytest.raises(InputError, match=r"'weight' would not be finite: .*'keep'"):
        lw.init.initialize(norm(nn.Linear(3, 2)), scheme="zeros")


def test_spectral_norm_knows_the_new_weight_at_once():
    """Its estimate of the largest singular value was that of the old one."""
    for norm in (nn.utils.spectral_norm, parametrizations.spectral_norm):
        torch.manual_seed(1)
        layer = norm(nn.Linear(8, 8)).eval()
        lw.init.initialize(layer, scheme=("normal", {"std": 1.0}))
        layer(torch.ones(1, 8))
        largest = torch.linalg.matrix_norm(layer.weight.detach(), 2)
        assert largest.item() == pytest.approx(1.0, rel=0.02)


def test_a_parametrisation_without_an_inverse_is_refused_with_its_cure():
    """What cannot be written is told, not skipped."""

    class Square(nn.Module):
        def forward(self, x):
            return x * x

    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "weight", Square(), unsafe=True)
    with pytest.raises(
        InputError, match=r"'weight' cannot be written through .*RuntimeError.*befo"
    ):
        lw.init.initialize(layer)


def test_rows_may_be_exchanged_before_applying():
    """A plan is data: what stands in its rows is what is written."""
    model = nn.Linear(3, 3)
    plan = lw.init.plan(model)
    plan.rows[0] = dataclasses.replace(plan.rows[0], scheme="ones")
    lw.init.Plan.from_json(plan.to_json(), model).apply()
    assert model.weight.eq(1).all()
    plan.apply()
    assert model.weight.eq(1).all()


def test_gradients_recorded_before_do_not_pass_unnoticed():
    """Writing counts as an in-place change, so a backward pass through old values fails."""
    model = nn.Linear(2, 2)
    loss = model(torch.ones(1, 2, requires_grad=True)).sum()
    lw.init.initialize(model)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert model.weight.grad_fn is None


def test_values_have_the_distribution_that_the_row_tells():
    """Kolmogorov-Smirnov on a depthwise convolution: each of its groups has nine weights."""
    layer = nn.Conv2d(512, 512, 3, groups=512)
    plan = lw.init.initialize(layer)
    row = plan.rows[0]
    assert row.fan_in == row.fan_out == 9
    values = layer.weight.detach().flatten().numpy()
    assert stats.kstest(values, stats.norm(0, row.std).cdf).pvalue > 1e-3


def test_initialize_is_plan_and_apply():
    """It takes their options and returns the plan."""
    model, twin = nn.Linear(3, 3), nn.Linear(3, 3)
    plan = lw.init.initialize(model, torch.ones(1, 3), seed=4, scheme="orthogonal")
    lw.init.plan(twin, scheme="orthogonal").apply(seed=4)
    assert torch.equal(model.weight, twin.weight)
    assert isinstance(plan, lw.init.Plan)
    assert plan.apply(seed=4) is None
