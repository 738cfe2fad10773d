import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from lampwork._core.errors import InputError
from lampwork.taps.trace import Use, consumers, trace


class Calls(nn.Module):
    """A model whose forward is a function of its layers."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._function = forward

    def forward(self, *args, **kwargs):
        return self._function(self, *args, **kwargs)


def _linear(width=4):
    return nn.Linear(width, width)


X = torch.randn(2, 4)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (torch.relu, Use("relu")),
        (F.relu, Use("relu")),
        (lambda x: F.relu(x, inplace=True), Use("relu")),
        (torch.relu_, Use("relu")),
        (lambda x: x.relu(), Use("relu")),
        (lambda x: x.relu_(), Use("relu")),
        (lambda x: x.clamp(min=0), Use("relu")),
        (lambda x: x.clamp_(0), Use("relu")),
        (lambda x: x.clamp(min=0, max=1), Use()),
        (F.gelu, Use("gelu")),
        (lambda x: F.gelu(x, approximate="tanh"), Use("gelu")),
        (torch.tanh, Use("tanh")),
        (F.tanh, Use("tanh")),
        (lambda x: x.tanh_(), Use("tanh")),
        (lambda x: x.sigmoid(), Use("sigmoid")),
        (F.silu, Use("silu")),
        (F.logsigmoid, Use("logsigmoid")),
        (F.relu6, Use("relu6")),
        (F.hardtanh, Use("hardtanh")),
        (lambda x: F.leaky_relu(x, 0.3), Use("leaky_relu", 0.3)),
        (lambda x: F.elu(x, alpha=2.0), Use("elu", 2.0)),
        (lambda x: F.softplus(x, 3.0), Use("softplus", 3.0)),
        (torch.sin, Use("sin")),
        (lambda x: x, Use()),
        (lambda x: x.softmax(-1), Use()),
        (lambda x: F.relu(x.softmax(-1)), Use()),
        (lambda x: F.relu(F.glu(x)), Use()),
    ],
)
def test_an_activation_is_known_however_it_is_called(call, expected):
    """Torch's function, the functional, the method, in place or not."""
    model = Calls(lambda m, x: call(m.fc(x)), fc=_linear())
    assert consumers(model, X) == {"fc.weight": expected}


@pytest.mark.parametrize(
    "between",
    [
        lambda x: F.layer_norm(x, (4,)),
        lambda x: F.dropout(x, 0.5),
        lambda x: x.view(4, 2).reshape(2, 4).flatten(),
        lambda x: x[None].permute(0, 2, 1).transpose(1, 2),
        lambda x: F.max_pool1d(x[None], 2),
        lambda x: F.adaptive_avg_pool1d(x[None], 1),
        lambda x: 0.5 * x / 3.0 - 1.0,
        lambda x: torch.cat([x, x], 0).chunk(2)[1],
        lambda x: x.T.contiguous().to(torch.float64),
        lambda x: torch.zeros(2, 4).copy_(x),
        lambda x: F.interpolate(x[None], scale_factor=2),
    ],
)
def test_what_is_not_a_nonlinearity_is_looked_through(between):
    """Normalisation, dropout, views, pooling, scaling, concatenation, casts, copies."""
    model = Calls(lambda m, x: F.silu(between(m.fc(x))), fc=_linear())
    assert consumers(model, X)["fc.weight"] == Use("silu")


def test_values_written_into_a_part_of_a_tensor_are_followed():
    """An output that is assembled row by row."""

    def forward(m, x):
        out = torch.zeros(2, 4)
        out[:] = m.fc(x)
        return F.relu(out)

    assert consumers(Calls(forward, fc=_linear()), X)["fc.weight"] == Use("relu")


def test_the_first_consumer_counts():
    """A layer feeds another linearly, before something else is done with its output."""

    def forward(m, x):
        y = m.a(x)
        return m.b(y) + torch.tanh(y)

    assert (
        consumers(Calls(forward, a=_linear(), b=_linear()), X)["a.weight"].nonlinearity == "linear"
    )


def test_a_registered_activation_that_is_not_called_does_not_count():
    """What is computed counts, not what is listed."""
    model = Calls(lambda m, x: F.gelu(m.a(x)), a=_linear(), act=nn.Tanh())
    assert consumers(model, X)["a.weight"] == Use("gelu")


def test_raw_parameters_and_products_are_layers_too():
    """F.linear, @ and einsum with a parameter of one's own."""

    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            for name in "abcd":
                setattr(self, name, nn.Parameter(torch.randn(4, 4)))

        def forward(self, x):
            x = F.relu(F.linear(x, self.a))
            x = torch.tanh(x @ self.b.T)
            x = F.silu(torch.einsum("ni,ij->nj", x, self.c))
            return torch.sigmoid(torch.addmm(torch.zeros(4), x, self.d))

    found = {name: use.nonlinearity for name, use in consumers(Raw(), X).items()}
    assert found == {"a": "relu", "b": "tanh", "c": "silu", "d": "sigmoid"}


def test_a_residual_branch_is_closed_by_its_last_layer():
    """The identity as the shorter way, with an activation in or after the branch."""

    def forward(m, x):
        x = m.stem(x)
        x = x + m.b(F.relu(m.a(x)))
        return F.relu(x + torch.tanh(m.c(x)))

    uses = consumers(Calls(forward, stem=_linear(), a=_linear(), b=_linear(), c=_linear()), X)
    assert {name for name, use in uses.items() if use.residual} == {"b.weight", "c.weight"}
    assert uses["a.weight"] == Use("relu")
    assert uses["c.weight"].nonlinearity == "tanh"


def test_a_convolutional_block_with_a_projected_skip_is_closed_by_its_last_norm():
    """As in ResNet: the added value is activated, the projection of the skip closes nothing."""

    def forward(m, x):
        y = m.n2(m.c2(F.relu(m.n1(m.c1(x)), inplace=True)))
        y += m.skip(x)
        return F.relu(y)

    layers = {name: nn.Conv2d(4, 4, 1, bias=False) for name in ("c1", "c2", "skip")}
    norms = {name: nn.BatchNorm2d(4) for name in ("n1", "n2")}
    uses = consumers(Calls(forward, **layers, **norms), torch.randn(2, 4, 3, 3))
    closing = {name for name, use in uses.items() if use.residual}
    assert closing == {"c2.weight", "n2.weight", "n2.bias"}
    assert uses["c2.weight"].nonlinearity == uses["skip.weight"].nonlinearity == "relu"


@pytest.mark.parametrize("norm_first", [False, True])
def test_in_a_transformer_the_two_projections_back_close_the_branches(norm_first):
    """Found from the computation, for torch's own layer, whose fast path is not taken."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, norm_first=norm_first, activation="gelu")
    uses = consumers(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(3, 2, 8)
    )
    closing = {name for name, use in uses.items() if use.residual}
    ends = ("self_attn.out_proj.weight", "linear2.weight")
    assert closing == {f"layers.{n}.{end}" for n in range(2) for end in ends}
    assert uses["layers.1.linear1.weight"] == Use("gelu")
    assert uses["layers.1.self_attn.in_proj_weight"] == Use()


def test_attention_by_hand_hands_on_its_values_only():
    """Queries and keys end in the softmax; without a projection the values close the branch."""

    def by_product(m, x):
        scores = (m.q(x) @ m.k(x).transpose(-2, -1)).softmax(-1)
        return x + scores @ m.v(x)

    def fused(m, x):
        return x + F.scaled_dot_product_attention(m.q(x), m.k(x), m.v(x))

    for forward in (by_product, fused):
        uses = consumers(
            Calls(forward, q=_linear(), k=_linear(), v=_linear()), torch.randn(2, 3, 4)
        )
        assert {name: use.residual for name, use in uses.items()} == {
            "q.weight": False,
            "k.weight": False,
            "v.weight": True,
        }
        assert {use.nonlinearity for use in uses.values()} == {"linear"}


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.a(x) + m.b(x),
        lambda m, x: m.b(F.relu(m.a(x))) + 1.0,
        lambda m, x: m.b(m.a(x)) + torch.ones(2, 4),
        lambda m, x: m.b(m.a(x)) + torch.randn_like(x),
        lambda m, x: m.b(m.a(x)) + m.offset,
        lambda m, x: m.b(m.a(x)) + x[:, :1],
        lambda m, x: m.b(m.a(x)) * x,
    ],
)
def test_an_addition_without_a_skip_closes_nothing(forward):
    """Sums of equal depth, constants, noise, parameters, broadcasts, products."""
    model = Calls(forward, a=_linear(), b=_linear())
    model.offset = nn.Parameter(torch.zeros(2, 4))
    assert not any(use.residual for use in consumers(model, X).values())


def test_embeddings_that_are_added_close_nothing():
    """Token and position embeddings are equally deep."""

    def forward(m, tokens):
        return m.head(m.token(tokens) + m.position(torch.arange(3)))

    model = Calls(forward, token=nn.Embedding(5, 4), position=nn.Embedding(3, 4), head=_linear())
    uses = consumers(model, torch.zeros(2, 3, dtype=torch.long))
    assert uses == {name: Use() for name in ("token.weight", "position.weight", "head.weight")}


def test_parametrised_weights_are_told_by_their_raw_names():
    """Both tensors of a weight norm feed the same layer."""
    model = Calls(lambda m, x: F.silu(m.fc(x)), fc=parametrizations.weight_norm(_linear()))
    raw = "fc.parametrizations.weight.original"
    assert consumers(model, X) == {raw + "0": Use("silu"), raw + "1": Use("silu")}


def test_learned_queries_are_inputs_of_the_layers_they_go_through():
    """A parameter in the place of the input is not the layer's weight."""
    model = Calls(lambda m, x: F.relu(m.fc(m.query)) + x, fc=_linear())
    model.query = nn.Parameter(torch.randn(2, 4))
    assert set(consumers(model, X)) == {"fc.weight"}


@pytest.mark.parametrize("build", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_layers_are_seen_as_a_whole(build):
    """Their matrices are found, their inside is not."""
    uses = consumers(build(4, 4), torch.randn(3, 4))
    assert len(uses) == 2
    assert set(uses.values()) == {Use()}


def test_a_model_on_meta_is_traced_without_memory():
    """The example may lie anywhere."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4))
    assert consumers(model, X) == {"0.weight": Use("relu")}


def test_the_model_is_afterwards_as_it_was():
    """Flags, buffers that the pass overwrites or replaces, torch's random state, gradients."""

    def forward(m, x):
        m.count += 1
        m.last = x.detach().clone()
        return m.norm(F.dropout(m.fc(x), 0.5, training=True))

    model = Calls(forward, fc=_linear(), norm=nn.BatchNorm1d(4)).train()
    model.fc.eval()
    model.register_buffer("count", torch.zeros(()))
    model.register_buffer("last", torch.zeros(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objects = {name: id(buffer) for name, buffer in model.named_buffers()}
    state = torch.get_rng_state()
    consumers(model, X)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert {name: id(buffer) for name, buffer in model.named_buffers()} == objects
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == [True, False, True]
    assert model.fc.weight.grad is None


def test_a_failing_pass_is_told_and_leaves_the_model_as_it_was():
    """The error shows the example and what the model said."""
    model = nn.Sequential(nn.Dropout(), _linear()).train()
    with pytest.raises(InputError, match=r"\(\(2, 3\) torch.float32\): Linear .1. expects 4"):
        consumers(model, torch.randn(2, 3))
    assert all(module.training for module in model.modules())
    with pytest.raises(InputError, match=r"\(no tensor\): TypeError"):
        consumers(model, {})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_model_stays_unseen_without_harm():
    """Its functions run below the level that is watched."""
    model = torch.jit.script(nn.Sequential(_linear(), nn.BatchNorm1d(4)).train())
    assert consumers(model, X) == {}
    assert model.training


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        (lambda x: x * torch.sigmoid(x), "silu"),
        (lambda x: x.sigmoid().mul(x), "silu"),
        (lambda x: x * torch.sigmoid(1.702 * x), "gelu"),
        (lambda x: x / 2 * (1 + torch.erf(x / 2**0.5)), "gelu"),
        (
            lambda x: 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * torch.pow(x, 3.0)))),
            "gelu",
        ),
        (lambda x: x * torch.tanh(F.softplus(x)), "mish"),
        (lambda x: x * F.relu6(x + 3) / 6, "hardswish"),
        (lambda x: x * F.hardsigmoid(x), "hardswish"),
        (lambda x: F.relu(x) ** 2, "relu"),
    ],
)
def test_a_nonlinearity_that_is_written_out_is_told_by_what_it_spells(spelled, expected):
    """As transformers' `gelu_new` and many a research code have it."""
    model = Calls(lambda m, x: m.b(spelled(m.a(x))), a=_linear(), b=_linear())
    assert consumers(model, X) == {"a.weight": Use(expected), "b.weight": Use()}


@pytest.mark.parametrize(
    ("gated", "expected"),
    [
        (lambda m, x: torch.sigmoid(m.a(x)) * m.b(x), "sigmoid linear"),
        (lambda m, x: F.silu(m.a(x)) * m.b(x), "silu linear"),
        (lambda m, x: torch.tanh(m.a(x)) * torch.sigmoid(m.b(x)), "tanh sigmoid"),
        (
            lambda m, x: torch.sigmoid(m.a(x)[:, :2]) * m.a(x)[:, 2:] + m.b(x)[:, :2],
            "sigmoid linear",
        ),
    ],
)
def test_a_gate_on_another_signal_is_what_it_is(gated, expected):
    """Gated units multiply two different things, also where both come from one layer."""
    uses = consumers(Calls(gated, a=_linear(), b=_linear()), X)
    assert " ".join(use.nonlinearity for use in uses.values()) == expected


class Parts(nn.Module):
    """Parameters in every place that they can have."""

    def __init__(self):
        super().__init__()
        shapes = {
            "out_in": (3, 4),
            "in_out": (3, 5),
            "experts": (2, 6, 5),
            "kernel": (4, 1, 3),
            "scale": (6,),
            "gemma": (6,),
            "shift": (6,),
            "token": (1, 1, 6),
            "position": (3, 6),
            "table": (7, 4),
            "layer_scale": (6,),
            "layer_shift": (6,),
        }
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.ones(shape)))

    def forward(self, tokens):
        x = self.table[tokens]  # (2, 2, 4)
        x = F.conv1d(x.transpose(1, 2), self.kernel, groups=4, padding=1).transpose(1, 2)
        x = F.linear(x, self.out_in) @ self.in_out
        x = torch.einsum("bti,oi->bto", x, self.experts[1])
        x = x * self.scale * (1 + self.gemma) + self.shift
        x = torch.cat([self.token.expand(2, -1, -1), x], 1) + self.position
        return F.layer_norm(x, (6,), self.layer_scale, self.layer_shift)


def test_the_place_of_every_parameter_is_told():
    """Matrices with the dimensions they sum over, scales, shifts, tokens, tables."""
    places = trace(Parts(), torch.zeros(2, 2, dtype=torch.long)).places
    assert {name: (place.does, place.summed, place.stacked) for name, place in places.items()} == {
        "table": ("table", (), ()),
        "kernel": ("convolution", (), ()),
        "out_in": ("matrix", (1,), ()),
        "in_out": ("matrix", (0,), ()),
        "experts": ("matrix", (2,), (0,)),
        "scale": ("scale", (), ()),
        "gemma": ("offset", (), ()),
        "shift": ("shift", (), ()),
        "token": ("token", (), ()),
        "position": ("token", (), ()),
        "layer_scale": ("scale", (), ()),
        "layer_shift": ("shift", (), ()),
    }
    depths = {name: place.depth for name, place in places.items()}
    assert [depths[n] for n in ("table", "kernel", "out_in", "in_out", "experts")] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert {depths["scale"], depths["layer_shift"]} == {5}
    assert {name for name, place in places.items() if place.ends} == {"experts"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (4, 4), (1, 4), (4, 1), (1, 1)])
def test_the_summed_dimension_is_told_through_views_and_casts(shape, turned, dtype):
    """`x @ w` sums over the first dimension of w, `x @ w.T` over its last."""

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(shape))

        def forward(self, x):
            w = self.w.to(dtype)
            return x.to(dtype) @ (w.T if turned else w)

    place = trace(Product(), torch.ones(2, shape[1 if turned else 0])).places["w"]
    if shape != (1, 1):
        assert place.summed == ((1,) if turned else (0,))


def test_queries_and_keys_feed_the_attention_and_end_nothing():
    """Only the last layer's output goes out of the model."""

    def forward(m, x):
        return m.o((m.q(x) @ m.k(x).transpose(-2, -1)).softmax(-1) @ m.v(x)).log_softmax(-1)

    layers = {name: _linear() for name in "qkvo"}
    places = trace(Calls(forward, **layers), torch.randn(2, 3, 4)).places
    assert {name for name, place in places.items() if place.ends} == {"o.weight"}


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (
            lambda: nn.Sequential(nn.Flatten(), _linear(8)),
            torch.ones(2, 2, 3),
            r"Linear '1' expects 8 features, was given 6 in \(2, 6\) in linear: RuntimeError: .*: "
            "pass an example by which its input ends in 8",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3)),
            torch.ones(2, 1, 8, 8),
            r"Conv2d '0' expects 3 channels, was given 1 in \(2, 1, 8, 8\) in conv2d: .*: pass an "
            r"example by which its input is \(N, 3, …\)",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3)),
            torch.ones(2, 8),
            r"Conv2d '0' expects 4 dimensions \(N, 3, …\), was given 2 in \(2, 8\)",
        ),
        (
            lambda: nn.Sequential(nn.Embedding(5, 4)),
            torch.tensor([[7]]),
            "Embedding '0' has 5 rows, was given the index 7 in embedding: .*: pass indices b",
        ),
        (
            lambda: nn.Sequential(nn.Embedding(5, 4)),
            torch.ones(2, 3),
            r"Embedding '0' expects indices, was given torch.float32 \(2, 3\).*: pass integers",
        ),
        (
            lambda: nn.Sequential(_linear()).bfloat16(),
            torch.ones(2, 4),
            r"Linear '0' is torch.bfloat16, was given torch.float32 \(2, 4\).*: pass floating "
            "point tensors as torch.bfloat16",
        ),
        (
            lambda: nn.Sequential(_linear()),
            torch.ones(2, 4, device="meta"),
            r"the example \(2, 4\) is on meta, the model on cpu: pass example.to\('cpu'\)",
        ),
        (
            lambda: nn.Sequential(Calls(lambda m, x: m.fc(x) + torch.ones(3), fc=_linear())),
            torch.ones(2, 4),
            r"Calls '0' fails on \(2, 4\) torch.float32, \(3,\) torch.float32 in add: RuntimeError",
        ),
        (
            lambda: nn.Sequential(Calls(lambda m, x: {}["k"], fc=_linear())),
            torch.ones(2, 4),
            "Calls '0': KeyError: 'k': pass a tensor, a tuple",
        ),
    ],
)
def test_the_layer_on_which_the_example_fails_is_told(model, example, message):
    """With what it expects and what it was given."""
    with pytest.raises(InputError, match=message):
        trace(model(), example)
