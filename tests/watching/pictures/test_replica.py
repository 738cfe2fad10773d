"""The replica shares the weights and nothing else."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lampwork.watching.pictures.forward import look
from lampwork.watching.pictures.probe import few
from lampwork.watching.pictures.replica import NoReplica, replica


class Busy(nn.Module):
    """A forward with every side effect that models in the wild have."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.parts = [self.linear, {"again": self.norm}]
        self.drop = nn.Dropout(0.5)
        self.run = self.linear.forward
        self.later = partial(nn.Module.__call__, self.norm)
        self.calls, self.seen, self.last = 0, [], {}
        self.generator = torch.Generator()
        self.register_buffer("steps", torch.zeros(()))
        self.state = torch.zeros(4)

    def forward(self, x):
        print("forward", self.calls)
        self.calls += 1
        self.seen.append(x)
        self.last["x"] = x
        self.steps += 1
        self.state.add_(x.detach().mean(0))
        noise = torch.randn(1, generator=self.generator) + random.random() + np.random.rand()
        x = self.parts[1]["again"](self.later(self.parts[0](x)) + self.run(x))
        return self.drop(x) + torch.randn(4) + noise + torch.randperm(4)


def test_a_run_of_the_replica_leaves_no_trace(capsys):
    """Weights, buffers, attributes, random states, hooks and standard output stay as they were."""
    torch.manual_seed(0)
    model, fired = Busy(), []
    model.linear.register_forward_hook(lambda *_: fired.append(1))
    x = torch.randn(6, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    own = model.generator.get_state()
    look(few("", model, ((x,), {})))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert (model.calls, model.seen, model.last, fired) == (0, [], {}, [])
    assert torch.equal(model.state, torch.zeros(4))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert torch.equal(model.generator.get_state(), own)
    assert model.training
    assert model.norm.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True)),
        lambda: nn.utils.weight_norm(nn.Linear(4, 4)),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
        lambda: nn.LSTM(4, 5, 2),
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2),
        lambda: nn.Sequential(*[nn.Linear(4, 4)] * 3),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_replica_computes_what_the_model_does(make):
    """In eval mode both give the same; a weight that moves in place moves in both."""
    torch.manual_seed(0)
    model, x = make(), torch.randn(3, 5, 4)
    x = x if isinstance(model, nn.LSTM | nn.TransformerEncoder) else x[0]
    model(x)
    copy = replica(model)
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    expected, found = model.eval()(x), copy(x)
    if isinstance(expected, tuple):
        expected, found = expected[0], found[0]
    torch.testing.assert_close(found, expected)  # torch's fused attention rounds otherwise


def test_what_would_run_the_model_itself_is_refused():
    """A function that holds a module, a lazy parameter and a model on meta have no replica."""
    wrapped = nn.Linear(2, 2)
    inner = wrapped.forward
    wrapped.forward = lambda x: inner(x)
    for model in (wrapped, nn.LazyLinear(3), nn.Linear(2, 2, device="meta")):
        with pytest.raises(NoReplica):
            replica(model)


def test_a_forward_that_talks_to_other_ranks_is_stopped(tmp_path):
    """Other ranks may take no picture now: a collective raises instead of waiting for them."""

    class Talks(nn.Linear):
        def forward(self, x):
            torch.distributed.all_reduce(x)
            return super().forward(x)

    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        with pytest.raises(NoReplica, match="allreduce"):
            look(few("", Talks(2, 2), ((torch.randn(3, 2),), {})))
        look(few("", nn.Linear(2, 2), ((torch.randn(3, 2),), {})))
    finally:
        torch.distributed.destroy_process_group()
