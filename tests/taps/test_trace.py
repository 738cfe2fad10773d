import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from lampwork._core.errors import InputError
from lampwork.taps.trace import Use, consumers


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
    with pytest.raises(InputError, match=r"\(\(2, 3\) torch.float32\): RuntimeError: .*: pass a t"):
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
