"""Parameters at the optimizer: gradients that were not cleared, several optimizers, odd ones."""

import numpy as np
import pytest
import torch
from torch import nn

from lampwork._core.summary import COLUMN, Summary
from lampwork._native.stats import summary_row
from tests.watching.training import (
    batches,
    hooks_anywhere,
    mlp,
    record_of,
    rows,
    seeded,
    sgd,
    train,
    watched,
)


def stale(run):
    """What each recorded step says about gradients that were not cleared."""
    return [note["stale_gradient"] for note in record_of(run).notes]


def optimized(run):
    """The parameters that an optimizer owns, as the record tells."""
    return {t.name for t in record_of(run).of_kind("weight") if t.facts["optimized"]}


def norms(run, name, kind):
    """The norm of one tensor at each recorded step."""
    return Summary(rows(record_of(run), name, kind)).norm


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_gradient_that_is_never_cleared_is_noted(tmp_path, every, set_to_none):
    """Without zero_grad every recorded step but the first is noted, with it none."""
    for clears in (True, False):
        model = seeded(mlp)
        optimizer = sgd(model, lr=0.001)
        with watched(model, tmp_path, every=every) as run:
            for x in batches(7, 5, 4):
                if clears:
                    optimizer.zero_grad(set_to_none=set_to_none)
                model(x).square().mean().backward()
                optimizer.step()
        notes = stale(run)
        assert len(notes) == len(range(0, 7, every))
        assert notes == [False] + [not clears] * (len(notes) - 1)


@pytest.mark.parametrize("cleared", ["before backward", "after step"])
def test_accumulation_over_micro_batches_is_no_mistake(tmp_path, cleared):
    """Several backward passes before a step are meant, as long as the first finds none."""
    model = seeded(mlp)
    optimizer = sgd(model)
    with watched(model, tmp_path) as run:
        for _ in range(3):
            if cleared == "before backward":
                optimizer.zero_grad()
            for x in batches(3, 5, 4):
                model(x).square().mean().backward()
            optimizer.step()
            if cleared == "after step":
                optimizer.zero_grad()
    assert stale(run) == [False] * 3


def gan(generator, critic, steps):
    """The usual loop of a GAN: the critic is cleared after the generator's pass went through it."""
    ours, theirs = sgd(generator), sgd(critic)
    for x in batches(steps, 5, 4):
        theirs.zero_grad()
        (critic(generator(x).detach()).mean() - critic(x).mean()).backward()
        theirs.step()
        ours.zero_grad()
        critic(generator(x)).mean().backward()
        ours.step()


@pytest.mark.parametrize("every", [1, 2, 3])
def test_the_order_of_a_gan_is_no_mistake(tmp_path, every):
    """Neither two watches nor one over both parts takes a GAN's loop for a missing zero_grad."""
    generator, critic = nn.Linear(4, 4), nn.Linear(4, 1)
    with (
        watched(generator, tmp_path, every=every) as first,
        watched(critic, tmp_path, every=every) as second,
    ):
        gan(generator, critic, 6)
    both = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 1)])
    with watched(both, tmp_path, every=every) as third:
        gan(*both, 6)
    for run in (first, second, third):
        assert stale(run) == [False] * len(stale(run))
    assert record_of(third).meta["steps"] == 12
    assert hooks_anywhere(both) == []


def test_two_optimizers_of_one_model_step_in_turn(tmp_path):
    """Each optimizer's step is a step; updates are those of its own parameters."""
    model = seeded(mlp)
    first, second = sgd(model[0]), torch.optim.Adam(model[2].parameters())
    with watched(model, tmp_path) as run:
        for x in batches(3, 5, 4):
            first.zero_grad()
            second.zero_grad()
            model(x).square().mean().backward()
            first.step()
            second.step()
    record = record_of(run)
    assert record.meta["steps"] == 6
    assert record.meta["optimizers"] == ["SGD", "Adam"]
    assert [note["optimizer"] for note in record.notes] == ["SGD", "Adam"] * 3
    own = np.isfinite(rows(record, "0.weight", "update")[:, 0]).tolist()
    other = np.isfinite(rows(record, "2.weight", "update")[:, 0]).tolist()
    assert own == [True, False] * 3
    assert other == [False, True] * 3
    assert not any(stale(run))


@pytest.mark.parametrize("every", [2, 100])
def test_an_optimizer_whose_steps_are_not_recorded_is_known(tmp_path, every):
    """Where every second step is recorded, and only one optimizer makes those, the other's
    parameters are not taken for forgotten ones.
    """
    model = seeded(mlp)
    first, second = sgd(model[0]), sgd(model[2])
    with watched(model, tmp_path, every=every) as run:
        for x in batches(3, 5, 4):
            model(x).square().mean().backward()
            for optimizer in (first, second):
                optimizer.step()
                optimizer.zero_grad()
    assert optimized(run) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_only_the_given_optimizer_counts(tmp_path):
    """With `optimizer=` the steps of others are no steps, but what they own is known."""
    model = seeded(mlp)
    first, second = sgd(model[0]), sgd(model[2])
    with watched(model, tmp_path, optimizer=first) as run:
        for x in batches(3, 5, 4):
            model(x).square().mean().backward()
            for optimizer in (second, first):
                optimizer.step()
                optimizer.zero_grad()
    assert record_of(run).meta["steps"] == 3
    assert optimized(run) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_an_optimizer_of_other_parameters_does_not_count(tmp_path):
    """Steps of an optimizer that owns nothing of this model are none of its steps."""
    model, other = seeded(mlp), seeded(mlp)
    with watched(model, tmp_path) as run:
        train(other, sgd(other), batches(3, 5, 4))
        train(model, sgd(model), batches(2, 5, 4))
    assert record_of(run).steps.tolist() == [0, 1]


class Wrapping(torch.optim.Optimizer):
    """An optimizer that steps another one, as Lookahead and ZeroRedundancyOptimizer do."""

    def __init__(self, inner):
        super().__init__(inner.param_groups, {})
        self.inner = inner

    def step(self, closure=None):
        """Step the inner one twice."""
        self.inner.step()
        self.inner.step()


def test_an_optimizer_inside_another_makes_no_step_of_its_own(tmp_path):
    """What wraps an optimizer and steps it makes one step, with the update of all of it."""
    model = seeded(mlp)
    with watched(model, tmp_path) as run:
        train(model, Wrapping(sgd(model, lr=0.25)), batches(3, 5, 4))
    record = record_of(run)
    assert record.steps.tolist() == [0, 1, 2]
    assert [note["optimizer"] for note in record.notes] == ["Wrapping"] * 3
    assert np.isfinite(rows(record, "0", "output")).all()
    # Twice the gradient at a rate of a quarter.
    gradient, update = norms(run, "0.weight", "grad"), norms(run, "0.weight", "update")
    np.testing.assert_allclose(update, 0.5 * gradient, rtol=1e-4)


def test_a_step_that_raises_is_taken_again(tmp_path):
    """An optimizer whose step failed, and was caught, makes that step when it succeeds."""
    model, fails = seeded(mlp), [True]
    optimizer = sgd(model)

    def maybe(*_):
        if fails.pop() if fails else False:
            raise ArithmeticError("inside")

    optimizer.register_step_pre_hook(maybe)
    with watched(model, tmp_path) as run:
        model(batches(1, 50, 4)[0]).square().mean().backward()
        with pytest.raises(ArithmeticError):
            optimizer.step()
        train(model, optimizer, batches(2, 5, 4))
    record = record_of(run)
    assert record.steps.tolist() == [0, 1]
    assert rows(record, "", "output")[:, COLUMN["count"]].tolist() == [10.0, 10.0]
    assert np.isfinite(rows(record, "0.weight", "update")).all()


@pytest.mark.parametrize("every", [1, 2])
def test_closures_are_looked_into(tmp_path, every):
    """LBFGS runs the model inside its step: outputs and gradients are those of the closure."""
    model, calls = seeded(mlp), []
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    x = batches(1, 5, 4)[0]

    def closure():
        calls.append(True)
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    evaluations = []
    with watched(model, tmp_path, every=every) as run:
        for _ in range(4):
            optimizer.step(closure)
            evaluations.append(len(calls))
            calls.clear()
    record = record_of(run)
    recorded = evaluations[::every]
    assert record.steps.tolist() == list(range(0, 4, every))
    assert rows(record, "0", "output")[:, COLUMN["count"]].tolist() == [40 * n for n in recorded]
    assert [note["forwards"] for note in record.notes] == recorded
    assert np.isfinite(rows(record, "0.weight", "grad")).all()
    assert not any(stale(run))


def test_a_closure_after_a_pass_is_not_counted_twice(tmp_path):
    """Where the user ran forward and backward before, the closure's second pass is left out."""
    model = seeded(mlp)
    optimizer = sgd(model)
    x = batches(1, 5, 4)[0]

    def loss():
        value = model(x).square().mean()
        value.backward()
        return value

    with watched(model, tmp_path) as run:
        for _ in range(2):
            optimizer.zero_grad()
            loss()
            optimizer.step(loss)
    record = record_of(run)
    assert rows(record, "0", "output")[:, COLUMN["count"]].tolist() == [40.0, 40.0]


def test_a_parameter_without_a_gradient_has_no_row(tmp_path):
    """Parameters that the loss does not use have a weight and no gradient at that step."""
    model = seeded(lambda: nn.ModuleDict({"used": nn.Linear(4, 2), "unused": nn.Linear(4, 2)}))
    optimizer = sgd(model)
    with watched(model, tmp_path) as run:
        for i, x in enumerate(batches(3, 5, 4)):
            optimizer.zero_grad()
            model["unused" if i == 1 else "used"](x).square().mean().backward()
            optimizer.step()
    record = record_of(run)
    seen = np.isfinite(rows(record, "unused.weight", "grad")[:, 0]).tolist()
    assert seen == [False, True, False]
    assert np.isfinite(rows(record, "unused.weight", "weight")).all()
    assert norms(run, "unused.weight", "update")[0] == 0


def test_tied_weights_count_once(tmp_path):
    """A weight under two names is recorded under the first, with the sum of its gradients."""

    def build():
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    model, twin = seeded(build), seeded(build)
    x = batches(1, 5, 4)[0]
    with watched(model, tmp_path) as run:
        train(model, sgd(model), [x])
    record = record_of(run)
    assert [t.name for t in record.of_kind("weight")] == ["0.weight", "0.bias", "1.bias"]
    twin(x).square().mean().backward()
    np.testing.assert_array_equal(
        rows(record, "0.weight", "grad")[0], summary_row(twin[0].weight.grad).numpy()
    )


@pytest.mark.parametrize("clears", [True, False])
def test_sparse_gradients_are_measured(tmp_path, clears, caplog):
    """Of an embedding with sparse gradients the touched rows count, cleared or accumulated."""
    model = seeded(lambda: nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Linear(4, 2)))
    optimizer = sgd(model)
    with watched(model, tmp_path) as run:
        for _ in range(3):
            if clears:
                optimizer.zero_grad(set_to_none=False)
            model(torch.tensor([1, 7, 7])).square().mean().backward()
            optimizer.step()
    record = record_of(run)
    assert rows(record, "0.weight", "grad")[:, COLUMN["count"]].tolist() == [8.0] * 3
    assert rows(record, "0.weight", "weight")[0, COLUMN["count"]] == 40
    assert stale(run) == [False] + [not clears] * 2
    assert caplog.records == []


def test_complex_parameters_are_measured(tmp_path, caplog):
    """A complex weight counts with both parts, also where its gradient is lazily conjugated."""

    class Rotate(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(4, dtype=torch.complex64))

        def forward(self, x):
            return torch.view_as_real(self.w * x)

    model = Rotate()
    optimizer = sgd(model)
    with watched(model, tmp_path) as run:
        for x in batches(3, 5, 4):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            model.w.grad = model.w.grad.conj().resolve_conj().conj()
            optimizer.step()
    assert rows(record_of(run), "w", "grad")[:, COLUMN["count"]].tolist() == [8.0] * 3
    assert caplog.records == []


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_unscaled_under_a_grad_scaler(tmp_path, fused):
    """With loss scaling recorded gradients are those of the loss itself, fused or not."""
    found = {}
    for scale in (1.0, 1024.0):
        model = seeded(mlp)
        optimizer = sgd(model, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        with watched(model, tmp_path) as run:
            for x in batches(3, 5, 4):
                optimizer.zero_grad()
                scaler.scale(model(x).square().mean()).backward()
                scaler.step(optimizer)
                scaler.update()
        record = record_of(run)
        assert [note["grad_scale"] for note in record.notes] == [[scale]] * 3
        kinds = {"0.weight": "grad", "0": "grad_output", "1": "output"}
        found[scale] = {kind: rows(record, name, kind) for name, kind in kinds.items()}
    # Powers of two scale without rounding.
    for kind, expected in found[1.0].items():
        np.testing.assert_array_equal(found[1024.0][kind], expected)


def test_a_step_that_the_scaler_skips_is_no_step(tmp_path):
    """A batch that overflowed under the scale makes no step; the next one does."""
    model = seeded(mlp)
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=2.0)
    with watched(model, tmp_path) as run:
        for factor in (1.0, torch.inf, 1.0):
            optimizer.zero_grad()
            scaler.scale(model(batches(1, 5, 4)[0]).square().mean() * factor).backward()
            scaler.step(optimizer)
            scaler.update()
    assert record_of(run).steps.tolist() == [0, 1]


def test_optimizers_that_step_inside_backward_do_no_harm(tmp_path, caplog):
    """One optimizer per parameter, stepped as soon as its gradient is there, is followed."""
    found = {}
    for watching in (False, True):
        model = seeded(mlp)
        optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

        def step(parameter, optimizers=optimizers):
            optimizers[parameter].step()
            optimizers[parameter].zero_grad()

        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(step)
        run = watched(model, tmp_path)
        if watching:
            run.start()
        for x in batches(3, 5, 4):
            model(x).square().mean().backward()
        run.stop()
        found[watching] = [p.detach().clone() for p in model.parameters()]
    assert all(map(torch.equal, found[False], found[True]))
    assert record_of(run).meta["steps"] == 12
    assert caplog.records == []


def test_lazy_modules_are_watched_from_their_first_call(tmp_path):
    """A model whose parameters get their shapes in the first forward may be watched before it."""
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))
    with watched(model, tmp_path) as run:
        model(torch.ones(1, 4))
        train(model, sgd(model), batches(2, 5, 4))
    record = record_of(run)
    assert record.find("0.weight", "weight").shape == (8, 4)
    assert np.isfinite(rows(record, "2.bias", "update")).all()


def test_a_lazy_module_that_is_never_called_is_passed_over(tmp_path, caplog):
    """Parameters without values have no rows, and the others have theirs."""
    model = nn.ModuleDict({"used": nn.Linear(4, 2), "unused": nn.LazyLinear(2)})
    with watched(model, tmp_path) as run:
        optimizer = sgd(model["used"])
        for x in batches(2, 5, 4):
            model["used"](x).sum().backward()
            optimizer.step()
    names = [tensor.name for tensor in record_of(run).of_kind("weight")]
    assert names == ["used.weight", "used.bias"]
    assert caplog.records == []


def test_parameters_that_are_unfrozen_later_are_told(tmp_path):
    """What the record says of a parameter follows requires_grad and later param groups."""
    model = seeded(mlp)
    model[0].requires_grad_(False)
    optimizer = sgd(model[2])
    with watched(model, tmp_path) as run:
        train(model, optimizer, batches(2, 5, 4))
        assert record_facts(run, "0.weight") == (False, False)
        model[0].requires_grad_(True)
        optimizer.add_param_group({"params": model[0].parameters()})
        train(model, optimizer, batches(2, 5, 4))
    assert record_facts(run, "0.weight") == (True, True)
    assert (
        np.isfinite(rows(record_of(run), "0.weight", "update")[:, 0]).tolist()
        == [False] * 2 + [True] * 2
    )


def test_a_layer_that_is_replaced_is_followed_with_its_optimizer(tmp_path, caplog):
    """Weights, gradients and updates are the new layer's from its optimizer's first step on."""
    model = seeded(mlp)
    with watched(model, tmp_path) as run:
        train(model, sgd(model), batches(2, 5, 4))
        model[2] = nn.Linear(8, 3)
        before = model[2].bias.detach().clone()
        train(model, sgd(model), batches(2, 5, 4))
    counts = rows(record_of(run), "2.bias", "update")[:, COLUMN["count"]].tolist()
    assert counts == [2, 2, 3, 3]
    total = rows(record_of(run), "2.bias", "weight")[2, COLUMN["sum"]]
    assert total == pytest.approx(before.double().sum().item())
    assert hooks_anywhere(model) == []
    assert caplog.records == []


def record_facts(run, name):
    """Whether the record tells a parameter to be trainable, and optimized."""
    if run._writer is not None:
        assert run._writer.flush()
    facts = record_of(run).find(name, "weight").facts
    return facts["requires_grad"], facts["optimized"]
