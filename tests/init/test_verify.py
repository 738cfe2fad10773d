import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lampwork as lw
from lampwork._core.errors import CheckFailed, InputError


def _mlp(depth, act=nn.ReLU, width=64, classes=10):
    pairs = pairwise([20, *[width] * depth])
    hidden = [part for pair in pairs for part in (nn.Linear(*pair), act())]
    return nn.Sequential(*hidden, nn.Linear(width, classes))


X = torch.randn(64, 20, generator=torch.Generator().manual_seed(0))
Y = torch.arange(64) % 10


def _codes(check):
    return {(finding.code, finding.severity) for finding in check.findings}


def _verified(model, x=X, y=Y, loss_fn=None, **options):
    """Planned and applied, then checked."""
    plan = lw.init.plan(model, x, **options)
    plan.apply(seed=0)
    return plan.verify(x, y, loss_fn)


@pytest.mark.parametrize("depth", [1, 5, 30])
def test_the_automatic_plan_passes_its_own_check(depth):
    """Shallow and deep; the loss row shows ln C beside the measured loss."""
    check = _verified(_mlp(depth))
    assert check.ok
    assert check.findings == []
    assert {row.status for row in check.rows} == {"PASS"}
    loss = check.rows[0]
    assert loss.name == "loss"
    assert loss.planned == pytest.approx(torch.tensor(10.0).log().item())
    check.raise_if_failed()


def test_second_moments_are_those_of_the_forward_and_backward_pass():
    """Compared with autograd.grad on the outputs of each layer."""
    model = _mlp(3)
    check = _verified(model)
    outputs, value = [], X
    for module in model:
        value = module(value)
        outputs.append(value)
    gradients = torch.autograd.grad(F.cross_entropy(value, Y), outputs)
    for row in (row for row in check.rows if row.order is not None):
        place = int(row.name.split(".")[0])
        assert row.output == pytest.approx(outputs[place].square().mean().item(), rel=1e-5)
        assert row.gradient == pytest.approx(gradients[place].square().mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("scheme", "code"),
    [
        ("zeros", "init-zero"),
        (("constant", {"val": 0.01}), "init-symmetric"),
        (("normal", {"std": 1.0}), "init-exploding"),
        (("normal", {"std": 0.01}), "init-vanishing"),
    ],
)
def test_schemes_that_cannot_train_fail(scheme, code):
    """A plan that is carried out to the letter and wrong for the model."""
    check = _verified(_mlp(10), scheme=scheme)
    assert (code, "fail") in _codes(check)
    assert not check.ok
    assert check.findings[0].code == code
    with pytest.raises(CheckFailed, match=f"does not pass the check.*\n.*FAIL {code}"):
        check.raise_if_failed()


def test_torchs_default_fades_in_ten_relu_layers_and_not_in_three():
    """Without apply the model is judged by what it does."""
    torch.manual_seed(0)
    deep, shallow = _mlp(10), _mlp(3)
    assert ("init-vanishing", "fail") in _codes(lw.init.plan(deep, X).verify(X, Y))
    assert lw.init.plan(shallow, X).verify(X, Y).findings == []


def test_nothing_remains_of_a_check():
    """Values, gradients, buffers, modes, versions, hooks and the random state."""
    model = nn.Sequential(
        nn.Linear(20, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.ReLU(), nn.Linear(16, 10)
    )
    model[1].eval()
    model[4].bias.requires_grad_(False)
    plan = lw.init.initialize(model, X)
    F.cross_entropy(model(X), Y).backward()
    stepped = []
    model[0].weight.register_post_accumulate_grad_hook(lambda p: stepped.append(p))
    before = copy.deepcopy(model.state_dict())
    gradients = [p.grad for p in model.parameters()]
    kept = [None if g is None else g.clone() for g in gradients]
    flags = [m.training for m in model.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    state = torch.get_rng_state()
    plan.verify(X, Y)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for parameter, gradient, value in zip(model.parameters(), gradients, kept, strict=True):
        assert parameter.grad is gradient
        assert gradient is None or torch.equal(gradient, value)
    assert flags == [m.training for m in model.modules()]
    assert hooks == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    assert torch.equal(state, torch.get_rng_state())
    assert stepped == []
    F.cross_entropy(model(X), Y).backward()
    assert len(stepped) == 1


def test_nothing_remains_of_a_check_that_fails():
    """A forward that raises in the middle."""
    model = _mlp(2)
    plan = lw.init.plan(model)
    with pytest.raises(InputError, match="does not run on the example"):
        plan.verify(torch.ones(3, 7))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
