"""Real training on handwritten digits: faults are found, their mended twins and sound runs pass."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import lampwork
from lampwork.diagnose import diagnose, verdict
from lampwork.record.reader import Record

Batch = tuple[Tensor, Tensor]


@dataclass
class Digits:
    """1797 images of 8×8 pixels in [0, 1] and their labels; trains, watches, reads the record."""

    x: Tensor
    y: Tensor
    folder: Path

    def batches(self, count: int, size: int = 64) -> Iterator[Batch]:
        chooser = torch.Generator().manual_seed(0)
        for _ in range(count):
            chosen = torch.randint(len(self.x), (size,), generator=chooser)
            yield self.x[chosen], self.y[chosen]

    def watched(
        self, model: nn.Module, step: Callable[[Any, Tensor, Tensor], None], *,
        steps: int = 60, every: int = 5, size: int = 64,
    ) -> Record:  # fmt: skip
        """Call `step(run, x, y)` for each batch, and read what was recorded."""
        with lampwork.watch(model, every=every, dir=self.folder, name="run", pictures=False) as run:
            for x, y in self.batches(steps, size):
                step(run, x, y)
        assert run.path is not None
        return Record(run.path)

    def train(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, *,
        shape: tuple[int, ...] = (64,), loss: Callable[..., Tensor] = F.cross_entropy,
        schedule: Callable[[int], float] = lambda step: 1.0, clear: bool = True, **options: Any,
    ) -> Record:  # fmt: skip
        """The loop that everybody writes."""
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)

        def step(run: Any, x: Tensor, y: Tensor) -> None:
            value = loss(model(x.view(-1, *shape)), y)
            value.backward()
            optimizer.step()
            scheduler.step()
            if clear:
                optimizer.zero_grad()
            run.log(loss=value)

        return self.watched(model, step, **options)


@pytest.fixture(scope="module")
def images() -> Batch:
    """The digits, loaded once."""
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)


@pytest.fixture
def digits(images: Batch, tmp_path: Path) -> Iterator[Digits]:
    """The digits, with one thread and a fixed seed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield Digits(*images, tmp_path)
    torch.set_num_threads(threads)


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.ReLU, bias: bool = True) -> nn.Sequential:
    """Linear layers with an activation between each two."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out, bias=bias), act()]
    return nn.Sequential(*layers[:-1])


def drawn(model: nn.Module, std: float | None) -> nn.Module:
    """The model with normal weights of this standard deviation, of He's without one."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            wanted = (2 / module.in_features) ** 0.5 if std is None else std
            nn.init.normal_(module.weight, 0, wanted)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    """Plain gradient descent on all parameters."""
    return torch.optim.SGD(model.parameters(), lr=lr)


def adam(model: nn.Module, lr: float = 3e-3) -> torch.optim.Optimizer:
    """Adam on all parameters."""
    return torch.optim.Adam(model.parameters(), lr=lr)


class Apply(nn.Module):
    """A function as a module, under its own name."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def cnn() -> nn.Sequential:
    """Two convolutions with batch normalisation, dropout, a head."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, 10)),
    )


class Functional(nn.Module):
    """Layers as modules, activations as functions: what most tutorials write."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.hidden = nn.Linear(256, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        x = F.dropout(F.relu(self.hidden(x.flatten(1))), 0.5, self.training)
        return F.log_softmax(self.head(x), dim=1)


class Recurrent(nn.Module):
    """Reads an image line by line."""

    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.rnn = kind(8, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


# Faults. Each trains with the fault, or without it as the twin.


def dead_relu(digits: Digits, faulty: bool) -> Record:
    """A bias so low that no input reaches above it."""
    model = mlp(64, 64, 64, 10)
    nn.init.constant_(model[2].bias, -100.0 if faulty else 0.0)
    return digits.train(model, sgd(model))


def dead_functional_relu(digits: Digits, faulty: bool) -> Record:
    """The same where the ReLU is a function."""
    model = Functional()
    nn.init.constant_(model.hidden.bias, -100.0 if faulty else 0.0)
    return digits.train(model, sgd(model), shape=(1, 8, 8), loss=F.nll_loss)


def mostly_dead_functional_relu(digits: Digits, faulty: bool) -> Record:
    """Sixty-one of sixty-four units of a functional ReLU."""
    model = Functional()
    with torch.no_grad():
        model.hidden.bias[:61].fill_(-100.0 if faulty else 0.0)
    return digits.train(model, sgd(model), shape=(1, 8, 8), loss=F.nll_loss)


def never_cleared(digits: Digits, faulty: bool) -> Record:
    """No `zero_grad`."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model), clear=not faulty)


def forgotten_last_layer(digits: Digits, faulty: bool) -> Record:
    """An optimizer that was made before the head."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model[:2] if faulty else model))


def forgotten_middle_layer(digits: Digits, faulty: bool) -> Record:
    """An optimizer of the first and the last layer."""
    model = mlp(64, 64, 64, 10)
    parts = [model[0], model[4]] if faulty else [model]
    return digits.train(model, sgd(nn.ModuleList(parts)))


def evaluation_mode(digits: Digits, faulty: bool) -> Record:
    """Batch normalisation and dropout in evaluation mode."""
    model = cnn().train(not faulty)
    return digits.train(model, adam(model), shape=(1, 8, 8))


def rate_of_zero(digits: Digits, faulty: bool) -> Record:
    """A learning rate of 0."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model, 0.0 if faulty else 0.1))


def rate_far_too_high(digits: Digits, faulty: bool) -> Record:
    """A learning rate that throws the weights away."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model, 50.0 if faulty else 0.1))


def adaptive_rate_too_high(digits: Digits, faulty: bool) -> Record:
    """The same with Adam, whose steps have the size of the rate."""
    model = mlp(64, 64, 64, 10)
    return digits.train(model, adam(model, 1.0 if faulty else 1e-3))


def rate_that_overflows(digits: Digits, faulty: bool) -> Record:
    """A learning rate that ends in NaN within five steps."""
    model = mlp(64, 64, 64, 10)
    return digits.train(model, sgd(model, 1e4 if faulty else 0.1))


def rate_far_too_low(digits: Digits, faulty: bool) -> Record:
    """A learning rate of which nothing is to be seen."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model, 1e-6 if faulty else 0.1), steps=120)


def weights_too_small(digits: Digits, faulty: bool) -> Record:
    """Twenty-two layers of N(0, 0.01)."""
    model = drawn(mlp(*[64] * 22, 10), 0.01 if faulty else None)
    return digits.train(model, sgd(model, 0.02), steps=30)


def weights_too_large(digits: Digits, faulty: bool) -> Record:
    """Eight layers of N(0, 1)."""
    model = drawn(mlp(*[64] * 8, 10), 1.0 if faulty else None)
    return digits.train(model, sgd(model, 0.02))


def constant_weights(digits: Digits, faulty: bool) -> Record:
    """One weight for all units."""
    model = mlp(64, 64, 10)
    if faulty:
        nn.init.constant_(model[0].weight, 0.05)
    return digits.train(model, sgd(model))


def zero_weights(digits: Digits, faulty: bool) -> Record:
    """Zeros throughout."""
    model = drawn(mlp(64, 64, 64, 10), 0.0 if faulty else None)
    return digits.train(model, sgd(model))


def logarithm_of_zero(digits: Digits, faulty: bool) -> Record:
    """A logarithm behind a ReLU."""
    log = Apply(lambda x: torch.log(x if faulty else x + 1.0))
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), log, nn.Linear(64, 10))
    return digits.train(model, sgd(model))


def root_of_zero(digits: Digits, faulty: bool) -> Record:
    """A square root whose value is finite where its slope is not."""
    root = Apply(lambda x: torch.sqrt(x * (x > 0) + (0.0 if faulty else 0.1)))
    model = nn.Sequential(nn.Linear(64, 64), root, nn.Linear(64, 10))
    return digits.train(model, sgd(model))


def sigmoid_stack(digits: Digits, faulty: bool) -> Record:
    """Eight layers of sigmoids."""
    model = mlp(*[64] * 9, 10, act=nn.Sigmoid if faulty else nn.ReLU)
    return digits.train(drawn(model, None), sgd(model), steps=120)


def chaotic_sine_stack(digits: Digits, faulty: bool) -> Record:
    """Outputs that are bounded, gradients that are not."""
    model = drawn(mlp(*[64] * 12, 10, act=lambda: Apply(torch.sin)), 1.0 if faulty else None)
    return digits.train(model, sgd(model, 0.01))


def detached(digits: Digits, faulty: bool) -> Record:
    """A first layer that is cut off."""
    cut = Apply(lambda x: x.detach() if faulty else x)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), cut, nn.Linear(64, 10))
    return digits.train(model, sgd(model))


def unused_layer(digits: Digits, faulty: bool) -> Record:
    """A last layer that nobody calls."""
    model = mlp(64, 64, 10)
    if faulty:
        model.append(nn.Linear(10, 10))
        model.forward = lambda x: model[:3](x)
    return digits.train(model, sgd(model))


def run_away_regression(digits: Digits, faulty: bool) -> Record:
    """A step just beyond what the curvature allows."""
    model = nn.Linear(64, 1)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(output[:, 0], y.float())

    return digits.train(model, sgd(model, 0.1 if faulty else 0.01), loss=loss, steps=40)


def labels_at_random(digits: Digits, faulty: bool) -> Record:
    """Labels that have nothing to do with the images."""
    model = mlp(64, 64, 10)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output, torch.randint(10, y.shape) if faulty else y)

    return digits.train(model, adam(model), loss=loss, steps=250)


@pytest.mark.parametrize(
    ("case", "codes", "where"),
    [
        (dead_relu, ["act-dead"], "3"),
        (dead_functional_relu, ["act-dead"], "hidden"),
        (mostly_dead_functional_relu, ["act-dead"], "hidden"),
        (never_cleared, ["grad-accumulating"], None),
        (forgotten_last_layer, ["optim-missing-params"], "2.weight"),
        (forgotten_middle_layer, ["optim-missing-params"], "2.weight"),
        (evaluation_mode, ["mode-eval-in-training"], None),
        (rate_of_zero, ["optim-frozen"], None),
        (rate_far_too_high, ["optim-lr-high"], None),
        (adaptive_rate_too_high, ["optim-lr-high", "act-dead"], None),
        (rate_that_overflows, ["optim-lr-high", "act-nonfinite", "loss-nonfinite"], None),
        (rate_far_too_low, ["optim-lr-low"], None),
        (weights_too_small, ["init-vanishing", "grad-vanishing"], "2"),
        (weights_too_large, ["init-exploding"], "4"),
        (constant_weights, ["init-symmetric"], "0.weight"),
        (zero_weights, ["init-zero"], "0.weight"),
        (logarithm_of_zero, ["act-nonfinite", "loss-nonfinite"], "2"),
        (root_of_zero, ["grad-nonfinite", "act-nonfinite", "loss-nonfinite"], "0"),
        (sigmoid_stack, ["grad-vanishing"], "0"),
        (chaotic_sine_stack, ["grad-exploding"], "0"),
        (detached, ["grad-none"], "0.weight"),
        (unused_layer, ["grad-none"], "3.weight"),
        (run_away_regression, ["loss-diverging"], None),
        (labels_at_random, ["loss-flat"], None),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_fault_is_found_and_its_mended_twin_passes(digits, case, codes, where):
    """The finding to mend first names the fault and its place; without the fault there is none."""
    found = diagnose(case(digits, True))
    assert (found[0].code, found[0].where) == (codes[0], where)
    assert set(codes) <= {finding.code for finding in found}
    for finding in found:
        assert json.dumps(finding.as_json(), allow_nan=False)
        assert len(finding.advice.splitlines()) == 2
    torch.manual_seed(0)
    assert diagnose(case(digits, False)) == []


# Sound runs, each with a habit that a careless rule would take for a fault.


def plain_mlp(digits: Digits) -> Record:
    """Nothing special."""
    model = mlp(64, 64, 64, 10)
    return digits.train(model, sgd(model))


def convolutions_with_batch_norm(digits: Digits) -> Record:
    """Channels, running statistics and two modes."""
    model = cnn()
    return digits.train(model, adam(model), shape=(1, 8, 8))


def activations_as_functions(digits: Digits) -> Record:
    """ReLUs that no hook sees."""
    model = Functional()
    return digits.train(model, sgd(model), shape=(1, 8, 8), loss=F.nll_loss)


def transformer(digits: Digits) -> Record:
    """Pre-norm blocks, packed projections, AdamW."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    mean = Apply(lambda x: x.mean(1))
    model = nn.Sequential(nn.Linear(8, 32), encoder, mean, nn.LayerNorm(32), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    return digits.train(model, optimizer, shape=(8, 8))


def lstm(digits: Digits) -> Record:
    """One module with many matrices."""
    model = Recurrent(nn.LSTM)
    return digits.train(model, adam(model), shape=(8, 8))


def frozen_backbone(digits: Digits) -> Record:
    """Parameters that need no gradient."""
    model = mlp(64, 64, 64, 10)
    model[:4].requires_grad_(False)
    return digits.train(model, sgd(model[4]))


def backbone_left_out(digits: Digits) -> Record:
    """Parameters with gradients that no optimizer owns."""
    model = mlp(64, 64, 64, 10)
    return digits.train(model, sgd(model[4]))


def frozen_backbone_in_evaluation_mode(digits: Digits) -> Record:
    """Statistics that are protected on purpose."""
    model = cnn().eval().requires_grad_(False)
    model[8].requires_grad_(True)
    return digits.train(model, sgd(model[8]), shape=(1, 8, 8))


def accumulation(digits: Digits) -> Record:
    """Gradients that pile up for four batches, then go."""
    model = mlp(64, 64, 10)
    optimizer = sgd(model)
    passes = 0

    def step(run: Any, x: Tensor, y: Tensor) -> None:
        nonlocal passes
        passes += 1
        loss = F.cross_entropy(model(x), y)
        (loss / 4).backward()
        run.log(loss=loss)
        if passes % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()

    return digits.watched(model, step, steps=120, every=2)


def tied_weights(digits: Digits) -> Record:
    """One tensor under two names, and integers going in."""
    embedding = nn.Embedding(17, 32)
    nn.init.normal_(embedding.weight, 0, 0.1)
    head = nn.Linear(32, 17, bias=False)
    head.weight = embedding.weight
    gru, first = nn.GRU(32, 32, batch_first=True), Apply(lambda pair: pair[0])
    model = nn.Sequential(embedding, gru, first, head)
    optimizer = adam(model)

    def step(run: Any, x: Tensor, _: Tensor) -> None:
        tokens = (16 * x[:, :24]).long()
        loss = F.cross_entropy(model(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(loss=loss)

    return digits.watched(model, step, steps=40)


def two_optimizers(digits: Digits) -> Record:
    """Two optimizers step the halves of one model."""
    model = mlp(64, 64, 64, 10)
    optimizers = [sgd(model[:2]), adam(model[2:])]

    def step(run: Any, x: Tensor, y: Tensor) -> None:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        run.log(loss=loss)

    # An even distance always meets the same one of the two.
    return digits.watched(model, step, every=10)


def adversaries(digits: Digits) -> Record:
    """A GAN: passes of one through the other, losses that rise, two clocks."""
    generator, judge = mlp(16, 64, 64), mlp(64, 64, 1, act=lambda: nn.LeakyReLU(0.2))
    model = nn.ModuleDict({"generator": generator, "judge": judge})
    optimizers = adam(judge), adam(generator)

    def descend(run: Any, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(loss=loss)

    def step(run: Any, x: Tensor, _: Tensor) -> None:
        fake = generator(torch.randn(len(x), 16))
        told_apart = F.softplus(-judge(x)) + F.softplus(judge(fake.detach()))
        descend(run, optimizers[0], told_apart.mean())
        descend(run, optimizers[1], F.softplus(-judge(fake)).mean())

    return digits.watched(model, step, every=5)


def heavy_dropout(digits: Digits) -> Record:
    """Four of five values are zero."""
    hidden = [nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.8)]
    model = nn.Sequential(*hidden, nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.8))
    model.append(nn.Linear(256, 10))
    return digits.train(model, sgd(model))


def warm_up_from_zero(digits: Digits) -> Record:
    """A first step that changes nothing."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model), schedule=lambda step: min(1.0, step / 50))


def long_warm_up(digits: Digits) -> Record:
    """Updates that are tiny, for now."""
    model = mlp(64, 64, 10)
    return digits.train(model, adam(model), schedule=lambda step: step / 1e5, steps=220)


def schedule_down_to_zero(digits: Digits) -> Record:
    """A last step that changes nothing."""
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model), schedule=lambda step: 1 - step / 59)


def bfloat16(digits: Digits) -> Record:
    """Outputs of eight bits of precision."""
    model = mlp(64, 64, 64, 10)
    forward = model.forward

    def mixed(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(x)

    model.forward = mixed
    return digits.train(model, adam(model))


def overflow_under_a_scaler(digits: Digits) -> Record:
    """Gradients that overflow float16, and steps that are skipped for it."""
    model = mlp(64, 64, 10)
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=2.0**40)

    def step(run: Any, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        run.log(loss=loss)

    return digits.watched(model, step, every=1)


class Block(nn.Module):
    """A residual block whose branch starts closed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return self.relu(x + y)


def closed_residual_branches(digits: Digits) -> Record:
    """Blocks that start as the identity."""
    stem = nn.Conv2d(1, 8, 3, padding=1)
    end = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)]
    model = nn.Sequential(stem, nn.ReLU(), Block(8), Block(8), *end)
    return digits.train(model, adam(model), shape=(1, 8, 8), steps=40)


def fine_tuning(digits: Digits, optimizer: Callable[..., torch.optim.Optimizer]) -> Record:
    """A rate of 1e-6 after training with one that was proper."""
    model = mlp(64, 64, 10)
    before = adam(model, 1e-2)
    for x, y in digits.batches(200):
        before.zero_grad()
        F.cross_entropy(model(x), y).backward()
        before.step()
    before.zero_grad()
    return digits.train(model, optimizer(model, 1e-6), steps=220)


def fine_tuning_with_adam(digits: Digits) -> Record:
    """Small steps of equal size."""
    return fine_tuning(digits, adam)


def fine_tuning_with_sgd(digits: Digits) -> Record:
    """Steps that are even smaller."""
    return fine_tuning(digits, sgd)


def twelve_steps(digits: Digits) -> Record:
    """A run that is too short to say anything."""
    model = mlp(64, 64, 64, 64, 10)
    return digits.train(model, adam(model, 1e-4), steps=12, every=1)


def few_of_most_classes(digits: Digits) -> Record:
    """Nine of ten images are zeros."""
    rare = torch.rand(len(digits.y), generator=torch.Generator().manual_seed(0)) < 0.05
    kept = (digits.y == 0) | rare
    digits.x, digits.y = digits.x[kept], digits.y[kept]
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model, 0.02), steps=220)


def words_that_are_rare(digits: Digits) -> Record:
    """An embedding most of which has no gradient."""
    words = Apply(lambda x: (16 * x).long() + 17 * torch.arange(64))
    model = nn.Sequential(words, nn.EmbeddingBag(5000, 32), mlp(32, 32, 10))
    return digits.train(model, adam(model, 1e-2))


class Adapted(nn.Module):
    """A frozen layer beside the product of two thin ones, the second of which starts at zero."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.base = nn.Linear(fan_in, fan_out).requires_grad_(False)
        self.lora_a = nn.Linear(fan_in, 4, bias=False)
        self.lora_b = nn.Linear(4, fan_out, bias=False)
        nn.init.zeros_(self.lora_b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.lora_b(self.lora_a(x))


def adapters(digits: Digits) -> Record:
    """Matrices of zeros beside frozen ones."""
    model = nn.Sequential(Adapted(64, 64), nn.ReLU(), Adapted(64, 64), nn.ReLU(), Adapted(64, 10))
    trained = [p for p in model.parameters() if p.requires_grad]
    return digits.train(model, torch.optim.Adam(trained, 1e-2))


def biases_alone(digits: Digits) -> Record:
    """Matrices with gradients that are left alone."""
    model = mlp(64, 64, 64, 10)
    chosen = [p for name, p in model.named_parameters() if name.endswith("bias")]
    return digits.train(model, torch.optim.Adam(chosen, 1e-2))


def head_of_zeros(digits: Digits) -> Record:
    """No gradient for the hidden layers at the first step."""
    model = mlp(64, 64, 64, 10)
    nn.init.zeros_(model[4].weight)
    nn.init.zeros_(model[4].bias)
    return digits.train(model, sgd(model))


def attention_mask(digits: Digits) -> Record:
    """Outputs of minus infinity."""
    future = torch.ones(8, 8).triu(1).bool()
    mask = Apply(lambda scores: scores.masked_fill(future, float("-inf")))

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(8, 32) for _ in range(3))
            self.mask, self.head = mask, nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            scores = self.query(x) @ self.key(x).transpose(1, 2) / 32**0.5
            return self.head((self.mask(scores).softmax(-1) @ self.value(x)).mean(1))

    model = Attention()
    return digits.train(model, adam(model, 1e-2), shape=(8, 8))


def deep_by_default(digits: Digits) -> Record:
    """Twelve layers under torch's default, whose gradients fade."""
    model = mlp(*[64] * 12, 10)
    return digits.train(model, adam(model, 1e-3))


def batches_of_one(digits: Digits) -> Record:
    """A loss that is all noise."""
    model = mlp(64, 64, 64, 10)
    return digits.train(model, sgd(model, 0.01), size=1, steps=220)


def tiny_weights_under_adam(digits: Digits) -> Record:
    """First steps as large as the weights."""
    model = drawn(mlp(64, 64, 10), 1e-3)
    return digits.train(model, adam(model, 1e-3))


def slow_beginning(digits: Digits) -> Record:
    """A loss that stays at guessing for long, since steps are small."""
    model = mlp(64, 32, 32, 32, 10)
    return digits.train(model, sgd(model, 0.01), steps=220)


def policy_gradient(digits: Digits) -> Record:
    """A loss around zero, of either sign."""
    model = mlp(64, 64, 10)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        policy = torch.distributions.Categorical(logits=logits)
        action = policy.sample()
        reward = (action == y).float()
        return -(policy.log_prob(action) * (reward - reward.mean())).mean()

    return digits.train(model, adam(model), loss=loss, steps=220)


def nothing_logged(digits: Digits) -> Record:
    """No loss to acquit deep fading gradients."""
    model = mlp(*[64] * 10, 10)
    optimizer = adam(model)

    def step(_: Any, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return digits.watched(model, step)


SOUND = [
    plain_mlp, convolutions_with_batch_norm, activations_as_functions, transformer, lstm,
    frozen_backbone, backbone_left_out, frozen_backbone_in_evaluation_mode, accumulation,
    tied_weights, two_optimizers, adversaries, heavy_dropout, warm_up_from_zero, long_warm_up,
    schedule_down_to_zero, bfloat16, overflow_under_a_scaler, closed_residual_branches,
    fine_tuning_with_adam, fine_tuning_with_sgd, twelve_steps, few_of_most_classes,
    words_that_are_rare, adapters, biases_alone, head_of_zeros, attention_mask, deep_by_default,
    batches_of_one, tiny_weights_under_adam, slow_beginning, policy_gradient, nothing_logged,
]  # fmt: skip


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.__name__)
def test_a_sound_run_raises_nothing(digits, case):
    """A false alarm is a defect of the same rank as a miss."""
    record = case(digits)
    assert record.meta["finished"] is True
    assert len(record.steps) >= 3
    found = diagnose(record)
    assert (verdict(found), found) == ("pass", [])
