"""What is recorded against a loop that computes it by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lampwork._core.summary import COLUMN, Summary, merge
from lampwork._native.stats import summary_row
from lampwork.watching import activations
from tests.native.reference import assert_describes
from tests.watching.training import batches, mlp, record_of, rows, seeded, sgd, train, watched


def row(*tensors):
    """The merged row of tensors, as one row of the record."""
    merged = summary_row(tensors[0]).numpy()
    for tensor in tensors[1:]:
        merged = merge(merged, summary_row(tensor).numpy())
    return merged


def without_channels(found):
    """A row with its two counts of channels left out."""
    found = np.array(found)
    found[..., [COLUMN["units"], COLUMN["dead"]]] = 0
    return found


def assert_same(found, *tensors):
    """The recorded row is that of these tensors, to the last bit."""
    np.testing.assert_array_equal(without_channels(found), without_channels(row(*tensors)))


def by_hand(model, optimizer, data, every):
    """Train an MLP without modules or hooks; at recorded steps yield every tensor by key."""
    w1, b1, w2, b2 = model.parameters()
    for step, x in enumerate(data):
        hidden = F.linear(x, w1, b1)
        active = F.relu(hidden)
        output = F.linear(active, w2, b2)
        loss = output.square().mean()
        layers = {"0": hidden, "1": active, "2": output, "": output}
        parameters = dict(model.named_parameters())
        wanted = [*layers.values(), *parameters.values()]
        gradients = torch.autograd.grad(loss, wanted)
        seen = {("output", name): value for name, value in layers.items()}
        seen |= {("grad_output", n): g for n, g in zip(layers, gradients, strict=False)}
        for (name, parameter), gradient in zip(parameters.items(), gradients[4:], strict=True):
            parameter.grad = gradient
            seen[("weight", name)] = parameter.detach().clone()
            seen[("grad", name)] = gradient
        optimizer.step()
        for name, parameter in parameters.items():
            seen[("update", name)] = parameter.detach() - seen[("weight", name)]
        seen[("input", "")] = x
        if step % every == 0:
            yield seen


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01, foreach=False),
    ],
)
def test_every_row_is_what_autograd_gives(tmp_path, make):
    """Outputs, their gradients, weights, gradients and updates of each recorded step have the rows
    that a loop with torch.autograd.grad computes, bit for bit.
    """
    data = batches(8, 5, 4)
    model, twin = seeded(mlp), seeded(mlp)
    with watched(model, tmp_path, every=3) as run:
        train(model, make(model.parameters()), data)
    record = record_of(run)
    expected = list(by_hand(twin, make(twin.parameters()), data, every=3))
    assert record.steps.tolist() == [0, 3, 6]
    keys = {(tensor.kind, tensor.name) for tensor in record.tensors}
    assert keys == set(expected[0])
    for i, seen in enumerate(expected):
        for (kind, name), tensor in seen.items():
            assert_same(rows(record, name, kind)[i], tensor)
            assert_describes(rows(record, name, kind)[i], tensor)


def test_the_record_describes_its_tensors(tmp_path):
    """Shape, dtype, module, root and the facts of parameters stand in the record, by depth."""
    model = seeded(mlp)
    model[2].bias.requires_grad_(False)
    with watched(model, tmp_path) as run:
        train(model, torch.optim.SGD([model[0].weight, model[2].weight], lr=0.1), batches(1, 5, 4))
    record = record_of(run)
    outputs = record.of_kind("output")
    assert [(t.name, t.shape, t.dtype, t.facts) for t in outputs] == [
        ("0", (5, 8), "float32", {"module": "Linear", "root": False}),
        ("1", (5, 8), "float32", {"module": "ReLU", "root": False}),
        ("2", (5, 2), "float32", {"module": "Linear", "root": False}),
        ("", (5, 2), "float32", {"module": "Sequential", "root": True}),
    ]
    facts = {t.name: t.facts for t in record.of_kind("weight")}
    linear = {"module": "Linear"}
    assert facts == {
        "0.weight": linear | {"requires_grad": True, "optimized": True},
        "0.bias": linear | {"requires_grad": True, "optimized": False},
        "2.weight": linear | {"requires_grad": True, "optimized": True},
        "2.bias": linear | {"requires_grad": False, "optimized": False},
    }
    seen = {
        kind: [t.name for t in record.of_kind(kind) if record.summary(t).count[0] > 0]
        for kind in ("weight", "grad", "update")
    }
    assert seen == {
        "weight": ["0.weight", "0.bias", "2.weight", "2.bias"],
        "grad": ["0.weight", "0.bias", "2.weight"],
        "update": ["0.weight", "2.weight"],
    }


def test_notes_tell_what_is_known_of_the_step(tmp_path):
    """Mode, learning rates, optimizer and the number of forward passes are noted."""
    model = seeded(mlp)
    groups = [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[2].parameters()}]
    optimizer = torch.optim.Adam(groups, lr=0.25)
    data = batches(3, 5, 4)
    with watched(model, tmp_path) as run:
        train(model, optimizer, data[:1])
        model.eval()
        train(model, optimizer, data[1:2])
        model.train()
        optimizer.param_groups[0]["lr"] = 0.125
        train(model, optimizer, data[2:])
    notes = [{k: v for k, v in n.items() if k != "batch"} for n in record_of(run).notes]
    common = {"stale_gradient": False, "optimizer": "Adam", "forwards": 1}
    assert notes == [
        {"training": True, "lr": [0.5, 0.25], **common},
        {"training": False, "lr": [0.5, 0.25], **common},
        {"training": True, "lr": [0.125, 0.25], **common},
    ]


def test_micro_batches_are_merged(tmp_path):
    """With gradient accumulation a step's rows are those of all its batches together."""
    model, twin = seeded(mlp), seeded(mlp)
    data = batches(6, 5, 4)
    optimizer = sgd(model)
    with watched(model, tmp_path) as run:
        for step in range(2):
            for x in data[3 * step : 3 * step + 3]:
                (model(x).square().mean() / 3).backward()
            optimizer.step()
            optimizer.zero_grad()
    record = record_of(run)
    outputs = [twin(x) for x in data[:3]]
    assert_same(rows(record, "", "output")[0], *outputs)
    losses = [output.square().mean() / 3 for output in outputs]
    flows = [torch.autograd.grad(loss, o)[0] for loss, o in zip(losses, outputs, strict=True)]
    for x in data[:3]:
        (twin(x).square().mean() / 3).backward()
    assert_same(rows(record, "", "grad_output")[0], *flows)
    assert_same(rows(record, "0.weight", "grad")[0], twin[0].weight.grad)
    assert [note["forwards"] for note in record.notes] == [3, 3]
    assert [note["stale_gradient"] for note in record.notes] == [False, False]


@pytest.mark.parametrize("mode", ["no_grad", "inference", "eval with autograd"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_validation_passes_are_not_counted(tmp_path, mode, when):
    """A pass that is not trained on leaves no trace, whether or not autograd followed it."""
    context = {
        "no_grad": torch.no_grad,
        "inference": torch.inference_mode,
        "eval with autograd": torch.enable_grad,
    }[mode]

    def validate():
        model.eval()
        with context():
            for x in batches(2, 7, 4, seed=9):
                model(x)
        model.train()

    model, twin = seeded(mlp), seeded(mlp)
    optimizer, x = sgd(model), batches(1, 5, 4)[0]
    with watched(model, tmp_path) as run:
        for _ in range(2):
            if when == "before":
                validate()
            model(x).square().mean().backward()
            if when == "after":
                validate()
            optimizer.step()
            optimizer.zero_grad()
    record = record_of(run)
    assert_same(rows(record, "", "output")[0], twin(x))
    assert [note["forwards"] for note in record.notes] == [1, 1]
    assert [note["training"] for note in record.notes] == [True, True]
    assert {tensor.call for tensor in record.tensors} == {1}


def test_passes_without_a_backward_do_not_pile_up(tmp_path, monkeypatch):
    """Of a long validation with autograd on, a limited number of passes is kept, then none."""
    monkeypatch.setattr(activations, "_MOST_WAITING", 3)
    model, twin = seeded(mlp), seeded(mlp)
    optimizer, x = sgd(model), batches(1, 5, 4)[0]
    kept = []
    with watched(model, tmp_path, pictures=False) as run:
        for batch in batches(10, 7, 4, seed=9):
            kept.append(model(batch))
        assert [bool(output._backward_hooks) for output in kept] == [False] * 7 + [True] * 3
        model(x).square().mean().backward()
        optimizer.step()
        assert not any(output._backward_hooks for output in kept)
    record = record_of(run)
    assert_same(rows(record, "", "output")[0], twin(x))
    assert record.notes[0]["forwards"] == 1


class Reusing(nn.Module):
    """One ReLU that is called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x))))


def test_calls_of_a_reused_module_are_told_apart(tmp_path):
    """Each call has rows of its own, and the next forward pass numbers from 1 again."""
    model, twin = seeded(Reusing), seeded(Reusing)
    x = batches(1, 5, 4)[0]
    with watched(model, tmp_path) as run:
        train(model, sgd(model), [x] * 3)
    record = record_of(run)
    labels = [tensor.label for tensor in record.of_kind("output")]
    assert labels == ["first", "relu", "second", "relu#2", "(model)"]
    once = F.relu(twin.first(x))
    assert_same(rows(record, "relu", "output")[0], once)
    assert_same(rows(record, "relu", "output", call=2)[0], F.relu(twin.second(once)))


class Recursive(nn.Module):
    """A model that calls itself, as one that reads a tree does; the innermost call may fail."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, depth=2, fails=False):
        inner = F.relu(self.layer(x))
        if depth:
            inner = self(inner, depth - 1, fails)
        elif fails:
            raise ArithmeticError
        return self.head(inner)


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_that_calls_itself_makes_one_pass(tmp_path, fails):
    """Calls inside of it, and of itself, are numbered through; a pass that raised before leaves no
    trace.
    """
    model, twin = seeded(Recursive), seeded(Recursive)
    optimizer, x = sgd(model), batches(1, 5, 4)[0]
    with watched(model, tmp_path) as run:
        if fails:
            with pytest.raises(ArithmeticError):
                model(x, fails=True)
        train(model, optimizer, [x, x])
    record = record_of(run)
    assert [note["forwards"] for note in record.notes] == [1, 1]
    labels = {tensor.label for tensor in record.of_kind("output")}
    names = ("layer", "head", "(model)")
    assert labels == {name + number for name in names for number in ("", "#2", "#3")}
    values, heads = x, []
    for call in (1, 2, 3):
        values = twin.layer(values)
        assert_same(rows(record, "layer", "output", call)[0], values)
        values = F.relu(values)
    for call in (1, 2, 3):
        values = twin.head(values)
        heads.append(values)
        assert_same(rows(record, "head", "output", call)[0], values)
        # The outermost call of the model begins first and ends last.
        assert_same(rows(record, "", "output", 4 - call)[0], values)
    flow = torch.autograd.grad(heads[-1].square().mean(), heads[0])[0]
    assert_same(rows(record, "head", "grad_output")[0], flow)
    assert_same(rows(record, "", "input")[1], x)


class ByParts(nn.Module):
    """A generator and a discriminator that are never called through their parent."""

    def __init__(self):
        super().__init__()
        self.generator, self.critic = nn.Linear(4, 4), nn.Linear(4, 1)


def test_a_model_that_is_only_called_by_its_parts_is_seen(tmp_path):
    """Without any forward of the root, calls are numbered within a step and not beyond it."""
    model = seeded(ByParts)
    optimizer = sgd(model)
    with watched(model, tmp_path) as run:
        for x in batches(4, 5, 4):
            optimizer.zero_grad()
            (model.critic(model.generator(x)).mean() - model.critic(x).mean()).backward()
            optimizer.step()
    record = record_of(run)
    labels = [tensor.label for tensor in record.of_kind("output")]
    assert labels == ["generator", "critic", "critic#2"]
    assert np.isfinite(rows(record, "critic", "output", call=2)).all()


def test_parts_of_an_output_are_told_apart(tmp_path):
    """The tensors of an LSTM's output are parts 0, 1 and 2; only floating ones are recorded."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, x):
            output, _ = self.lstm(x)
            scores = self.head(output[:, -1])
            return {"best": scores.argmax(1), "scores": scores}

    model, twin = seeded(Net), seeded(Net)
    x = batches(1, 5, 6, 4)[0]
    with watched(model, tmp_path) as run:
        model(x)["scores"].sum().backward()
        sgd(model).step()
    record = record_of(run)
    labels = [tensor.label for tensor in record.of_kind("output")]
    assert labels == ["lstm", "lstm[1]", "lstm[2]", "head", "(model)[1]"]
    output, (hidden, cell) = twin.lstm(x)
    for part, tensor in enumerate((output, hidden, cell)):
        found = record.summary(record.find("lstm", "output", part=part)).rows[0]
        assert_same(found, tensor)
    # The last hidden state is not used: no gradient flows into it.
    assert np.isnan(record.summary(record.find("lstm", "grad_output", part=1)).rows).all()


def test_operations_in_place_do_not_change_what_was_seen(tmp_path):
    """A ReLU in place changes its input's memory after that one's row was taken."""
    build = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))  # noqa: E731
    model, twin = seeded(build), seeded(mlp)
    x = batches(1, 5, 4)[0]
    with watched(model, tmp_path) as run:
        train(model, sgd(model), [x])
    record = record_of(run)
    hidden = twin[0](x)
    assert_same(rows(record, "0", "output")[0], hidden)
    output = twin[2](F.relu(hidden))
    assert_same(
        rows(record, "0", "grad_output")[0],
        torch.autograd.grad(output.square().mean(), hidden)[0],
    )


class Checkpointed(nn.Module):
    """A block that is recomputed in backward."""

    def __init__(self, reentrant=None):
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Linear(4, 4)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, x):
        h = self.stem(x)
        if self.reentrant is None:
            return self.block(h)
        return checkpoint(self.block, h, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputed_blocks_count_once(tmp_path, reentrant):
    """With either kind of checkpoint, output and gradient are recorded once, as without it."""
    found = {}
    for kind in (None, reentrant):
        model = seeded(lambda kind=kind: Checkpointed(kind))
        with watched(model, tmp_path) as run:
            train(model, sgd(model), batches(3, 5, 4))
        record = record_of(run)
        keys = [(tensor.kind, tensor.name) for tensor in record.tensors]
        found[kind] = {key: rows(record, key[1], key[0]) for key in keys}
        assert [note["forwards"] for note in record.notes] == [1, 1, 1]
    assert found[None].keys() == found[reentrant].keys()
    for key, expected in found[None].items():
        np.testing.assert_array_equal(found[reentrant][key], expected, err_msg=str(key))


def test_dead_channels_of_an_image_are_counted(tmp_path):
    """Channels of a ReLU that never speak are dead from the first step on, the others not."""
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten()))
    with torch.no_grad():
        model[0].bias[:3] = torch.tensor([-1e3, -1e3, 1e3])
    with watched(model, tmp_path) as run:
        train(model, sgd(model, lr=0.0), batches(7, 5, 1, 6, 6))
    record = record_of(run)
    relu = record.summary(record.find("1", "output"))
    assert relu.rows[:, COLUMN["units"]].tolist() == [4.0] * 7
    assert relu.dead_share.tolist() == [0.5] * 7
    assert record.summary(record.find("0", "output")).dead_share.tolist() == [0.0] * 7


def test_a_channel_that_speaks_in_one_micro_batch_is_alive(tmp_path):
    """Channels are dead that are silent in all batches of a step, not in one of them."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
    optimizer = sgd(model, lr=0.0)
    with watched(model, tmp_path) as run:
        for _ in range(2):
            model(torch.tensor([[1.0, -1.0]])).sum().backward()
            model(torch.tensor([[-1.0, -1.0]])).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert Summary(rows(record_of(run), "1", "output")).dead_share.tolist() == [0.5, 0.5]


def test_tokens_have_their_units_in_the_last_dimension(tmp_path):
    """Of (N, T, C) the units are C; with a 1-D convolution in the model (N, C, L) is meant."""
    for build, shape, units in (
        (lambda: nn.Sequential(nn.Linear(4, 3)), (2, 7, 4), 3),
        (lambda: nn.Sequential(nn.Conv1d(4, 3, 1)), (2, 4, 7), 3),
    ):
        model = seeded(build)
        with watched(model, tmp_path) as run:
            train(model, sgd(model), batches(1, *shape))
        assert rows(record_of(run), "0", "output")[0, COLUMN["units"]] == units


def test_an_expert_without_tokens_is_not_dead(tmp_path):
    """A module that was given an empty batch is recorded as empty, with no channel dead."""
    model = seeded(mlp)
    optimizer = sgd(model)
    with watched(model, tmp_path) as run:
        model(torch.empty(0, 4)).sum().backward()
        optimizer.step()
    summary = Summary(rows(record_of(run), "1", "output"))
    assert summary.count[0] == 0
    assert np.isnan(summary.dead_share[0])


def test_a_parameter_as_output_is_seen_and_left_alone(tmp_path):
    """A module that returns its own parameter is recorded, and no hook stays on that."""

    class Prompt(nn.Module):
        def __init__(self):
            super().__init__()
            self.prompt, self.head = nn.Parameter(torch.ones(4)), nn.Linear(4, 2)
            self.same = nn.Dropout(0.0)

        def forward(self, x):
            return self.head(x + self.same(self.prompt))

    model = Prompt()
    with watched(model, tmp_path) as run:
        train(model, sgd(model), batches(3, 5, 4))
        # One may be there, to look whether gradients are cleared.
        assert len(model.prompt._backward_hooks) <= 1
    assert not model.prompt._backward_hooks
    assert [note["forwards"] for note in record_of(run).notes] == [1, 1, 1]


def test_a_gradient_that_comes_too_late_is_dropped(tmp_path):
    """A backward pass through the graph of a step that is over is not counted in the next one."""
    model = seeded(mlp)
    optimizer = sgd(model)
    x = batches(1, 5, 4)[0]
    with watched(model, tmp_path) as run:
        output = model(x)
        output.square().mean().backward(retain_graph=True)
        optimizer.step()
        torch.autograd.grad(output.sum(), output)
        optimizer.zero_grad()
        train(model, optimizer, [x])
    counts = rows(record_of(run), "", "grad_output")[:, COLUMN["count"]]
    assert counts.tolist() == [10.0, 10.0]


def test_functional_transforms_are_passed_over(tmp_path, caplog):
    """Per-sample gradients by torch.func in between leave no trace, and do no harm."""
    model, twin = seeded(mlp), seeded(mlp)
    x = batches(1, 5, 4)[0]
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters, x):
        return torch.func.functional_call(model, parameters, (x,)).square().mean()

    with watched(model, tmp_path) as run:
        torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
        train(model, sgd(model), [x])
    record = record_of(run)
    assert_same(rows(record, "", "output")[0], twin(x))
    assert record.notes[0]["forwards"] == 1
    assert caplog.records == []


@pytest.fixture
def process_group():
    """torch.distributed with this process as its only rank."""
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def in_ddp(model):
    """The model, wrapped to be called."""
    return nn.parallel.DistributedDataParallel(model)


def sharded(model):
    """The model, its parameters sharded over all of one rank."""
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    for part in (model[0], model[2], model):
        torch.distributed.fsdp.fully_shard(part, mesh=mesh)
    return model


@pytest.mark.parametrize("distribute", [in_ddp, sharded])
@pytest.mark.filterwarnings("ignore")  # of torch, about what is not optimal with one rank
def test_distributed_models_are_read_at_the_optimizer(tmp_path, process_group, distribute):
    """Under DDP and FSDP2 each row is that of the plain model, the local shard's where sharded."""
    found = []
    for wrap in (lambda model: model, distribute):
        model = seeded(mlp)
        called = wrap(model)
        with watched(model, tmp_path) as run:
            train(called, sgd(model), batches(3, 5, 4))
        record = record_of(run)
        found.append({(t.kind, t.name): rows(record, t.name, t.kind) for t in record.tensors})
    plain, distributed = found
    assert plain.keys() == distributed.keys()
    for key, expected in plain.items():
        np.testing.assert_allclose(distributed[key], expected, rtol=1e-6, err_msg=str(key))


def change_through_data(model):
    """Past the version counter."""
    model[0].weight.data.mul_(0.5)


def change_in_place(model):
    """One element, with the version counter."""
    with torch.no_grad():
        model[0].weight[1, 2] = 7.0


def give_other_memory(model):
    """Other values elsewhere."""
    model[2].weight.data = torch.ones(2, 8)


def make_strided(model):
    """Another layout."""
    model[0].weight.data = torch.ones(4, 8).t()


@pytest.mark.parametrize(
    "change", [change_through_data, change_in_place, give_other_memory, make_strided]
)
@pytest.mark.parametrize("every", [1, 2])
def test_weights_changed_between_steps_are_read_as_they_are(tmp_path, change, every):
    """A user who changes weights by hand, after one step and before the next, finds in the record
    what the optimizer found, and updates without the user's part.
    """
    model = seeded(mlp)
    optimizer = sgd(model, momentum=0.9)
    before, updates = [], []

    def note(optimizer, args, kwargs):
        before.append({n: p.detach().clone() for n, p in model.named_parameters()})

    def note_update(optimizer, args, kwargs):
        now = {n: p.detach().clone() for n, p in model.named_parameters()}
        updates.append({n: now[n] - old for n, old in before[-1].items()})

    optimizer.register_step_pre_hook(note)
    optimizer.register_step_post_hook(note_update)
    data = batches(7, 5, 4)
    with watched(model, tmp_path, every=every) as run:
        train(model, optimizer, data[:4])
        change(model)
        train(model, optimizer, data[4:])
    record = record_of(run)
    assert record.steps.tolist() == list(range(0, 7, every))
    for i, step in enumerate(record.steps.tolist()):
        for name in before[step]:
            assert_same(rows(record, name, "weight")[i], before[step][name])
            assert_same(rows(record, name, "update")[i], updates[step][name])
