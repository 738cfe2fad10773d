"""Data-driven initialisation, held against the layer-by-layer algorithm as it was published."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import lampwork as lw
from lampwork._core.errors import InputError, NameNotFound


def _noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5)) * 3 + 1


def classic(model, x, *, tolerance=1e-6, passes=20):
    """Mishkin & Matas 2016, algorithm 1: for each layer in turn, whole passes until it fits."""
    model.eval()
    for layer in [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]:
        seen = []
        handle = layer.register_forward_hook(lambda m, a, output, seen=seen: seen.append(output))
        for _ in range(passes):
            seen.clear()
            with torch.no_grad():
                model(x)
                variance = seen[0].var(correction=0)
                if abs(variance - 1.0) < tolerance:
                    break
                layer.weight /= variance.sqrt()
        handle.remove()
    return model


class Residual(nn.Module):
    """Functional calls, a layer that is used twice, dropout, and registration out of order."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.drop(F.relu(self.conv(x)))
        x = x + F.relu(self.conv(x))
        return self.head(x.mean((2, 3)))


def _mlp(depth=6):
    layers = [m for _ in range(depth) for m in (nn.Linear(32, 32), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(32, 10))


MODELS = {
    "MLP": (_mlp, _noise(64, 32)),
    "residual": (Residual, _noise(8, 3, 6, 6)),
    "image": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 4, 3)),
        _noise(8, 3, 9, 9),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_one_pass_gives_what_the_layer_by_layer_algorithm_gives(name):
    """Weights as torch draws them, with biases that are not zero."""
    torch.manual_seed(0)
    build, x = MODELS[name]
    model = build()
    expected = classic(copy.deepcopy(model), x)
    lw.init.lsuv(model, x, orthogonal=False)
    for (key, ours), theirs in zip(
        model.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=1e-6, msg=key)


def test_every_layer_puts_out_unit_variance_and_the_model_ran_once():
    """Also the last of thirty layers; from orthogonal weights."""
    torch.manual_seed(0)
    model, x, calls = _mlp(30), _noise(64, 32), []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    fit = lw.init.lsuv(model, x, seed=1)
    handle.remove()
    assert len(calls) == 1
    assert [layer.name for layer in fit.layers] == [str(2 * place) for place in range(31)]
    assert str(fit).startswith("fitted 31 layers")
    value = x
    for module in model:
        value = module(value)
        if isinstance(module, nn.Linear):
            assert value.var(correction=0).item() == pytest.approx(1.0, rel=1e-3)
    weight = model[0].weight
    gram = weight @ weight.T
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(32), rtol=1e-4, atol=1e-5)


def test_orthogonal_weights_are_those_of_the_seed():
    """The same for the same seed, others for another."""
    fitted = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(fitted))
        model = _mlp(2)
        with torch.no_grad():
            for module in (model[0], model[2], model[4]):
                module.bias.zero_()
        lw.init.lsuv(model, _noise(64, 32), seed=seed)
        fitted.append(model[2].weight)
    torch.testing.assert_close(fitted[0], fitted[1])
    assert not torch.allclose(fitted[0], fitted[2])


@pytest.mark.parametrize("per", ["unit", "layer"])
def test_outputs_get_the_mean_and_standard_deviation_asked_for(per):
    """Of every unit, or of the layer; also grouped and transposed convolutions."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 12, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, groups=4),
    )
    value = x = _noise(8, 3, 8, 8)
    lw.init.data_dependent(model, x, mean=0.5, std=2.0, per=per)
    for module in model:
        value = module(value)
        if hasattr(module, "weight"):
            dims = (0, 2, 3) if per == "unit" else (0, 1, 2, 3)
            centre, spread = value.mean(dims), value.std(dims, correction=0)
            torch.testing.assert_close(centre, torch.full_like(centre, 0.5), rtol=0, atol=1e-3)
            torch.testing.assert_close(spread, torch.full_like(spread, 2.0), rtol=1e-3, atol=0)


def test_what_cannot_be_fitted_is_left_and_told():
    """Frozen, of zeros, shared with an embedding, never called, and a bias that is too wide."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 8)
            self.frozen = nn.Linear(8, 8).requires_grad_(False)
            self.zero, self.wide, self.unused = (nn.Linear(8, 8) for _ in range(3))
            self.head = nn.Linear(8, 10, bias=False)
            self.head.weight = self.embed.weight
            nn.init.zeros_(self.zero.weight)
            nn.init.normal_(self.wide.bias, std=50.0)

        def forward(self, ids):
            x = self.frozen(self.embed(ids))
            return self.head(self.wide(x + self.zero(x)))

    torch.manual_seed(0)
    model = Odd()
    before = copy.deepcopy(model.state_dict())
    fit = lw.init.lsuv(model, torch.arange(10), orthogonal=False)
    assert fit.layers == []
    assert {name: why.split(" of ")[0] for name, why in fit.skipped.items()} == {
        "head": "shared with an embedding",
        "frozen": "frozen",
        "zero": "its weight is 0",
        "wide": "its bias alone has a standard deviation",
        "unused": "the pass does not call it as a module",
    }
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_parametrised_weight_is_written_through():
    """What the layer computes with is scaled."""
    torch.manual_seed(0)
    model, x = weight_norm(nn.Linear(16, 32)), _noise(64, 16)
    lw.init.lsuv(model, x, orthogonal=False)
    assert model(x).var(correction=0).item() == pytest.approx(1.0, rel=1e-4)


def test_a_pass_that_fails_leaves_everything_as_it_was():
    """Orthogonal weights were drawn by then; hooks and modes go back too."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(5, 4)).train()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match="does not run on the example"):
        lw.init.lsuv(model, torch.ones(2, 4))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())
    assert all(m.training for m in model.modules())


def test_arguments_that_cannot_be_meant_are_refused():
    """A glob without a layer, a model on meta, no spread, an unknown kind."""
    model, x = _mlp(1), _noise(4, 32)
    with pytest.raises(NameNotFound, match=r"'heads.\*' matches no linear or convolutional layer"):
        lw.init.lsuv(model, x, modules=["heads.*"])
    with pytest.raises(InputError, match="standard deviation of 0"):
        lw.init.lsuv(model, x, std=0)
    with pytest.raises(InputError, match="per='channel' is not known"):
        lw.init.data_dependent(model, x, per="channel")
    with pytest.raises(InputError, match="is on meta"):
        lw.init.lsuv(_mlp(1).to("meta"), x)


def test_lsuv_is_a_scheme_of_a_plan():
    """Rules are kept to, the plan passes its own check, and applies again with another seed."""
    model, x = _mlp(10), _noise(64, 32)
    before = [parameter.clone() for parameter in model.parameters()]
    plan = lw.init.plan(model, x, scheme="lsuv", rules=[("20.weight", ("normal", {"std": 0.02}))])
    assert all(map(torch.equal, before, model.parameters()))
    first = None
    for seed in (0, 1):
        plan.apply(seed=seed)
        assert model[20].weight.std().item() == pytest.approx(0.02, rel=0.2)
        assert model[:19](x).var(correction=0).item() == pytest.approx(1.0, rel=1e-3)
        assert plan.verify(x).findings == []
        assert (plan.rows[0].scheme, plan.rows[0].std) == ("lsuv", None)
        assert re.match(r"LSUV: orthogonal, then × [\d.]+ for outputs", plan.rows[0].reason)
        assert first is None or not torch.equal(first, model[0].weight)
        first = model[0].weight.detach().clone()
    twin = _mlp(10)
    lw.init.initialize(twin, x, seed=1, scheme="lsuv", rules=[("20.weight", "ones")])
    assert torch.equal(twin[0].weight, model[0].weight)


def test_lsuv_by_rule_fits_the_named_layers_alone():
    """A model that is one layer has no name; recurrent weights become orthogonal."""
    model, x = _mlp(3), _noise(64, 32)
    plan = lw.init.initialize(model, x, rules=[("2.weight", "lsuv")])
    assert [row.name for row in plan.rows if row.scheme == "lsuv"] == ["2.weight"]
    assert model[:3](x).var(correction=0).item() == pytest.approx(1.0, rel=1e-3)
    layer = nn.Linear(32, 8)
    lw.init.initialize(layer, x, scheme="lsuv")
    assert layer(x).var(correction=0).item() == pytest.approx(1.0, rel=1e-3)
    rows = lw.init.plan(nn.LSTM(32, 4), x, scheme="lsuv").rows
    assert rows[0].scheme == "orthogonal"
    assert "LSUV scales linear and convolutional layers" in rows[0].reason


def test_lsuv_without_data_or_a_layer_is_refused():
    """At planning, and of a plan from JSON, which holds no data, before anything is written."""
    model, x = _mlp(2), _noise(16, 32)
    with pytest.raises(InputError, match=r"'lsuv' scales '0.weight' on data: pass a batch of real"):
        lw.init.plan(model, scheme="lsuv")
    plan = lw.init.Plan.from_json(lw.init.plan(model, x, scheme="lsuv").to_json(), model)
    before = model[0].weight.clone()
    with pytest.raises(InputError, match=r"'0.weight' is to be scaled on data.*plan again with"):
        plan.apply()
    assert torch.equal(model[0].weight, before)
    with pytest.raises(InputError, match=r"'lsuv' scales the weights.*'0.bias' is bias of Linear"):
        lw.init.plan(model, x, rules=[("0.bias", "lsuv")])


def test_a_weight_whose_norm_is_fixed_is_left_alone():
    """spectral_norm would undo every scale, and the fit would say that it fits."""
    for norm in (spectral_norm, nn.utils.spectral_norm):
        fit = lw.init.lsuv(nn.Sequential(norm(nn.Linear(8, 8)), nn.Linear(8, 4)), _noise(32, 8))
        assert fit.skipped == {"0": "its parametrisation undoes every scale"}
        assert [layer.name for layer in fit.layers] == ["1"]
