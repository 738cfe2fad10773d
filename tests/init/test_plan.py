import dataclasses
import json
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lampwork as lw
from lampwork._core.errors import InputError, NameNotFound


def _rows(model, example=None, **options):
    return {row.name: row for row in lw.init.plan(model, example, **options).rows}


class Net(nn.Module):
    """A beginner's network: activations are calls, one is registered and never used."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.unused = nn.Tanh()
        self.hidden = nn.Linear(4, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2).mean((2, 3))
        return self.head(F.gelu(self.hidden(x)))


X = torch.zeros(2, 1, 8, 8)


def test_there_is_one_row_per_parameter_and_buffer():
    """Compared with torch's own lists; a row has the fields that were agreed."""
    model = Net()
    plan = lw.init.plan(model)
    own = {*dict(model.named_parameters()), *dict(model.named_buffers())}
    assert [row.name for row in plan.rows] == [name for name in _rows(model) if name in own]
    assert {row.name for row in plan.rows} == own
    agreed = (
        "name shape role fan_in fan_out nonlinearity residual scheme std reason tied depth parts "
        "chosen_by"
    )
    assert [field.name for field in dataclasses.fields(lw.init.Row)] == agreed.split()


def test_with_an_example_the_forward_pass_tells_the_nonlinearity():
    """Functional calls count, the activation that is registered and unused does not."""
    found = _rows(Net(), X)
    assert found["conv.weight"].nonlinearity == "relu"
    assert found["hidden.weight"].nonlinearity == "gelu"
    assert found["head.weight"].nonlinearity == "linear"
    assert "gelu follows (from one forward pass)" in found["hidden.weight"].reason
    assert found["hidden.weight"].std == pytest.approx(1.4680112605 / 4**0.5)


def test_without_an_example_the_reason_says_that_it_is_a_guess():
    """Here the guess is wrong, and the plan admits that it is one."""
    found = _rows(Net())
    assert found["conv.weight"].nonlinearity == "tanh"
    assert "guessed from module order" in found["conv.weight"].reason
    assert "no activation follows (guessed" in found["head.weight"].reason


def test_a_layer_that_the_example_does_not_reach_is_guessed():
    """A branch for training only, for example."""
    model = Net()
    model.extra = nn.Sequential(nn.Linear(3, 3), nn.SiLU())
    row = _rows(model, X)["extra.0.weight"]
    assert row.nonlinearity == "silu"
    assert "guessed from module order, the example's forward pass does not reach it" in row.reason


def test_an_example_may_be_positional_or_by_keyword():
    """A tuple gives positions, a dict gives keywords."""
    assert _rows(nn.Bilinear(2, 3, 4), (torch.ones(1, 2), torch.ones(1, 3)))
    two = {"input1": torch.ones(1, 2), "input2": torch.ones(1, 3)}
    assert _rows(nn.Bilinear(2, 3, 4), two)


def test_auto_gives_each_role_its_default():
    """Weights, norms, biases, embeddings, gates, attention, PReLU, buffers."""
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(6, 4),
            "act": nn.LeakyReLU(0.2),
            "norm": nn.BatchNorm1d(4),
            "embed": nn.Embedding(10, 4, padding_idx=3),
            "lstm": nn.LSTM(4, 5),
            "gru": nn.GRU(4, 5),
            "rnn": nn.RNN(4, 5, nonlinearity="relu"),
            "attention": nn.MultiheadAttention(4, 2, add_bias_kv=True),
            "prelu": nn.PReLU(init=0.1),
            "up": nn.ConvTranspose2d(4, 2, 4, stride=2),
        }
    )
    found = _rows(model)
    told = {name: (row.role, row.scheme, row.std) for name, row in found.items()}
    leaky = (2 / 1.04 / 6) ** 0.5
    assert told["linear.weight"] == ("weight", "orthogonal", pytest.approx(leaky))
    assert told["linear.bias"] == ("bias", "zeros", 0.0)
    assert told["norm.weight"] == ("norm", "ones", 0.0)
    assert told["norm.bias"] == ("norm", "zeros", 0.0)
    assert told["norm.running_var"] == ("buffer", "keep", None)
    assert told["embed.weight"] == ("embedding", "normal", 0.02)
    assert told["lstm.weight_ih_l0"] == ("recurrent", "lecun_normal", pytest.approx(0.5))
    assert told["lstm.weight_hh_l0"] == ("recurrent", "orthogonal", pytest.approx(5**-0.5))
    assert told["lstm.bias_ih_l0"][1] == "lstm_bias"
    assert told["lstm.bias_hh_l0"][1] == told["gru.bias_ih_l0"][1] == "zeros"
    assert found["lstm.weight_ih_l0"].nonlinearity == "sigmoid"
    assert found["rnn.weight_hh_l0"].nonlinearity == "relu"
    packed = told["attention.in_proj_weight"]
    assert packed == ("packed", "xavier_uniform", pytest.approx(0.5))
    assert told["attention.bias_k"] == ("other", "xavier_normal", pytest.approx(0.5))
    assert found["prelu.weight"].scheme.options == {"val": 0.1}
    assert told["up.weight"] == ("transposed", "kaiming_normal", pytest.approx(0.25))


def test_a_named_scheme_goes_to_every_weight_and_to_nothing_else():
    """Embeddings, norms and biases keep their defaults."""
    model = nn.ModuleList(
        [nn.Linear(3, 3), nn.Conv1d(2, 2, 1), nn.LSTM(2, 2), nn.Embedding(4, 2), nn.LayerNorm(2)]
    )
    found = _rows(model, scheme=("trunc_normal", {"std": 0.02}))
    weights = {name for name, row in found.items() if row.scheme == "trunc_normal"}
    assert weights == {"0.weight", "1.weight", "2.weight_ih_l0", "2.weight_hh_l0"}
    assert found["0.weight"].std == pytest.approx(0.02 * 0.8796, rel=1e-4)
    assert found["3.weight"].scheme == "normal"
    assert found["4.weight"].scheme == "ones"
    assert found["0.weight"].reason == "the scheme for every weight"


def test_rules_overrule_everything_and_say_so():
    """The last match wins, and buffers are left alone."""
    found = _rows(
        Net(),
        scheme="xavier_uniform",
        rules=[("*", "zeros"), ("head.*", ("normal", {"std": 0.1})), ("norm.*", "keep")],
    )
    assert found["conv.weight"].scheme == "zeros"
    assert (found["head.bias"].scheme, found["head.bias"].std) == ("normal", 0.1)
    assert found["norm.weight"].std is None
    assert found["norm.running_mean"].scheme == "keep"
    assert found["head.weight"].reason == "rule 'head.*', over rule '*'"


def test_a_shared_tensor_has_one_row_with_its_other_names():
    """The tied head of a language model."""
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    (row,) = lw.init.plan(model).rows
    assert (row.name, row.role, row.tied) == ("embed.weight", "embedding", ("head.weight",))


def test_a_model_on_meta_is_planned_like_any_other():
    """Shapes are all that a plan needs, also for the forward pass on an example."""
    with torch.device("meta"):
        model = Net()
    real = {name: dataclasses.replace(row, reason="") for name, row in _rows(Net(), X).items()}
    meta = {name: dataclasses.replace(row, reason="") for name, row in _rows(model, X).items()}
    weights = [name for name in real if real[name].role != "buffer"]
    assert [meta[name] for name in weights] == [real[name] for name in weights]
    assert meta["norm.running_var"].scheme == "ones"
    assert meta["norm.num_batches_tracked"].scheme == "zeros"


def test_an_unknown_two_dimensional_parameter_is_read_as_out_by_in_when_a_rule_asks():
    """As torch reads it; of more dimensions the fans must be said."""
    model = nn.Module()
    model.w = nn.Parameter(torch.empty(6, 3))
    row = _rows(model, rules=[("w", "lecun_normal")])["w"]
    assert (row.role, row.fan_in, row.fan_out) == ("other", 3, 6)
    model.w = nn.Parameter(torch.empty(8, 6, 3))
    row = _rows(model, rules=[("w", ("lecun_normal", {"fan_in": 4}))])["w"]
    assert (row.fan_in, row.std) == (4, 0.5)


def test_a_raw_parameter_is_followed_through_the_forward_pass():
    """A layer of one's own has no default, but its row tells what its output meets."""

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.empty(4, 4))

        def forward(self, x):
            return x + F.silu(x @ self.w)

    row = _rows(Mine(), torch.ones(2, 4), rules=[("w", "xavier_normal")])["w"]
    assert (row.nonlinearity, row.residual) == ("silu", True)


def test_planning_changes_nothing():
    """Not the weights, the buffers, the training flags nor the random state."""
    model = Net().train()
    model.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    lw.init.plan(model, X)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert (model.training, model.norm.training) == (True, False)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_plan_survives_json():
    """Equal rows with equal options, and the same values when applied."""
    model, twin = Net(), Net()
    plan = lw.init.plan(model, X, rules=[("hidden.weight", ("uniform", {"a": -1.0, "b": 1.0}))])
    again = lw.init.Plan.from_json(plan.to_json(), twin)
    assert again.rows == plan.rows
    assert [r.scheme.options for r in again.rows] == [r.scheme.options for r in plan.rows]
    plan.apply(seed=5)
    again.apply(seed=5)
    assert all(map(torch.equal, model.parameters(), twin.parameters()))


def test_a_plan_from_meta_survives_json_with_what_it_does_not_know():
    """A buffer that nobody can fill stays one."""
    model = nn.Module()
    model.register_buffer("angles", torch.empty(4, device="meta"))
    plan = lw.init.plan(model)
    assert lw.init.Plan.from_json(plan.to_json(), model).rows == plan.rows
    assert plan.rows[0].scheme == "unfilled"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m.add_module("more", nn.Linear(1, 1)),
            "'more.weight' is not in the plan; 'more",
        ),
        (lambda m: delattr(m, "head"), "'head.weight' is not in the model; 'head.bias' is not"),
        (
            lambda m: setattr(m, "head", nn.Linear(8, 5)),
            r"'head.weight' is \(5, 8\), planned \(3, 8",
        ),
    ],
)
def test_a_plan_for_another_model_is_refused_by_name(change, message):
    """From JSON and when applied, and nothing is written."""
    model = Net()
    plan = lw.init.plan(model)
    text = plan.to_json()
    change(model)
    before = model.conv.weight.clone()
    with pytest.raises(InputError, match=f"is not for this model.*{message}.*plan again"):
        lw.init.Plan.from_json(text, model)
    with pytest.raises(InputError, match=message):
        plan.apply()
    assert torch.equal(model.conv.weight, before)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"the text is no plan \(JSONDecodeError"),
        ("[]", r"the text is no plan \(TypeError"),
        ("{}", r"the text is no plan \(KeyError: 'schema'\): pass what to_json wrote"),
        (json.dumps({"schema": 9, "rows": []}), "schema 9, this lampwork reads 2: plan again"),
    ],
)
def test_text_that_is_no_plan_is_refused(text, message):
    """Each with its cause."""
    with pytest.raises(InputError, match=message):
        lw.init.Plan.from_json(text, Net())


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.empty(8, 16, 4))
        self.scale = nn.Parameter(torch.arange(4.0))
        self.codes = nn.Parameter(torch.empty(4, 4, dtype=torch.int8), requires_grad=False)


KEPT = [("codes", "keep"), ("scale", "keep")]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {},
            InputError,
            r"no default covers 'up' \(8, 16, 4\), 'scale' \(4,\): Experts is not a layer that "
            r"lampwork knows: pass an example, whose forward pass may tell, or give a rule, "
            r"e.g. rules=\[\('up', .*\('up', 'keep'\)",
        ),
        ({"scheme": "kaiming_norml"}, InputError, "mean 'kaiming_normal'.*Known: auto, bert"),
        ({"rules": [("ups", "zeros")]}, NameNotFound, "'ups' matches no .* did you mean 'up'"),
        (
            {"rules": [("up", "xavier_normal"), *KEPT]},
            InputError,
            r"'xavier_normal' needs the fan_in of 'up' \(8, 16, 4\), which its shape does not tell",
        ),
        (
            {"rules": [("up", ("xavier_normal", {"fan_in": 16})), *KEPT]},
            InputError,
            "'xavier_normal' needs the fan_out of 'up'",
        ),
        (
            {"rules": [("*", ("normal", {"std": 0.1}))]},
            InputError,
            "'codes' is torch.int8, normal draws real numbers: give the rule",
        ),
        (
            {"rules": [("up", "zeros"), ("scale", "orthogonal"), ("codes", "keep")]},
            InputError,
            r"'scale': orthogonal needs two dimensions or more, the shape is \(4,\)",
        ),
        (
            {"rules": [("up", ("normal", {"std": -1})), *KEPT]},
            InputError,
            "'up': a standard deviation cannot be negative",
        ),
    ],
)
def test_what_cannot_be_planned_is_an_error_with_its_cure(options, error, message):
    """Unknown parameters, schemes and names, missing fans, types without real numbers."""
    with pytest.raises(error, match=message):
        lw.init.plan(Experts(), **options)


def test_an_example_that_does_not_fit_is_an_error_that_shows_it():
    """Shape and dtype of what was given, the cause, the cure."""
    with pytest.raises(
        InputError,
        match=r"\(\(2, 5\) torch.float32\): Linear .0. expects 4 features, was given 5 in",
    ):
        lw.init.plan(nn.Sequential(nn.Linear(4, 2)), torch.zeros(2, 5))


def test_a_plan_prints_as_an_aligned_table():
    """Columns start below their heads, and the last line counts."""
    lines = str(lw.init.plan(Net(), X)).splitlines()
    head, first = lines[0], lines[1]
    for title, cell in (("shape", "4×1×3×3"), ("fan_in", "9"), ("consumer", "relu")):
        assert first[head.index(title) :].startswith(cell)
    assert first.startswith("conv.weight")
    assert lines[-1] == "11 tensors, 8 to write"
    assert len(lines) == 13
    assert repr(lw.init.plan(Net())) == "<Plan of 11 tensors of Net>"


def test_a_frozen_parameter_keeps_its_values_unless_a_rule_names_it():
    """A pretrained backbone, a table of sines; the plan tells."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Embedding(4, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    for scheme in ("auto", "orthogonal"):
        found = _rows(model, scheme=scheme, rules=[("1.weight", "ones")])
        assert found["0.weight"].scheme == found["0.bias"].scheme == "keep"
        assert found["0.weight"].reason.startswith("frozen")
        assert found["1.weight"].scheme == "ones"
        assert found["2.weight"].scheme != "keep"
    with torch.device("meta"):
        empty = nn.Linear(3, 3).requires_grad_(False)
    assert _rows(empty)["weight"].scheme == "unfilled"


def test_quantised_parameters_are_kept():
    """Integers cannot be trained: they are frozen, and only zeros may be written into them."""
    model = nn.Module()
    model.codes = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to give these types up
        packed = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    model.register_buffer("packed", packed)
    assert {row.scheme for row in lw.init.plan(model).rows} == {"keep"}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: nn.Linear(2, 2, dtype=torch.complex64),
            r"'weight' is torch.complex64, orthogonal draws real .*\('weight', 'keep'\)",
        ),
        (
            lambda: _with(nn.Linear(2, 2), torch.eye(2).to_sparse()),
            r"'weight' is stored as torch.sparse_coo, orthogonal writes dense values: give",
        ),
        (lambda: nn.LazyLinear(2), "parameter 'weight' is lazy .*: run one batch through"),
        (
            lambda: nn.LazyBatchNorm1d(affine=False),
            "buffer 'running_mean' is lazy and has no shape yet",
        ),
    ],
)
def test_tensors_that_hold_no_plain_real_numbers_are_told(build, message):
    """Complex, sparse and lazy ones, with or without an example."""
    for example in (None, torch.ones(2, 2)):
        model = build()
        with pytest.raises(InputError, match=message):
            lw.init.plan(model, example if "lazy" in message else None)


def _with(layer, weight):
    layer.weight = nn.Parameter(weight)
    return layer


class RMSNorm(nn.Module):
    """As language models have it, Gemma's with 1 added to its scale."""

    def __init__(self, width, added):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 1.0 - added))
        self._added = added

    def forward(self, x):
        scale = self._added + self.weight if self._added else self.weight
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)) * scale


@pytest.mark.parametrize(("added", "scheme"), [(0.0, "ones"), (1.0, "zeros")])
def test_a_normalisation_of_ones_own_starts_as_the_identity(added, scheme):
    """With an example by what it does, without one by its name and its constant."""
    x = torch.ones(2, 4)
    for example in (x, None):
        row = _rows(RMSNorm(4, added), example)["weight"]
        assert (row.role, row.scheme) == (
            "norm",
            scheme if example is not None or added else "ones",
        )
    with torch.device("meta"):
        empty = RMSNorm(4, added)
    assert _rows(empty, x)["weight"].scheme == scheme


def test_a_scale_of_ones_own_keeps_the_constant_that_it_was_built_with():
    """LayerScale starts branches near 0; a scale that was trained is not overwritten unasked."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.gamma = nn.Linear(4, 4), nn.Parameter(torch.full((4,), 1e-4))

        def forward(self, x):
            return x + self.gamma * self.fc(x)

    model, x = Scaled(), torch.ones(2, 4)
    for example in (x, None):
        row = _rows(model, example)["gamma"]
        assert (row.scheme, row.role) == ("constant", "other")
        assert row.scheme.options["val"] == pytest.approx(1e-4)
    model.gamma = nn.Parameter(torch.arange(4.0))
    with pytest.raises(InputError, match=r"no default covers 'gamma' \(4,\)"):
        lw.init.plan(model, x)


def test_depth_counts_the_layers_on_the_way():
    """The longest way counts, and everything that belongs to a layer lies as deep as it."""
    found = _rows(Net(), X)
    depths = {name: row.depth for name, row in found.items() if row.role != "buffer"}
    assert depths == {
        "conv.weight": 0,
        "conv.bias": 0,
        "norm.weight": 1,
        "norm.bias": 1,
        "hidden.weight": 1,
        "hidden.bias": 1,
        "head.weight": 2,
        "head.bias": 2,
    }
    assert {row.depth for row in _rows(Net()).values()} == {None}
