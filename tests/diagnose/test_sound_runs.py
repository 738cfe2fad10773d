"""Sound training, each with a habit that a careless rule would take for a fault, is not accused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lampwork.diagnose import diagnose, verdict
from lampwork.record.reader import Record
from tests.diagnose.digits import (
    Apply,
    Digits,
    Functional,
    Recurrent,
    adam,
    cnn,
    drawn,
    mlp,
    sgd,
)


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
