"""What batches hold, in real training with the fault and without, and next to what is sound."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, IterableDataset, TensorDataset, get_worker_info

import lampwork
from lampwork.diagnose import diagnose
from lampwork.record.reader import Record
from tests.diagnose.digits import Batch, Digits, adam, cnn, mlp, sgd

Loop = Callable[[Any], Iterable[Batch]]


def over(
    digits: Digits, batches: Callable[[], Iterable[Batch]], epochs: int = 2, *,
    model: nn.Module | None = None, loss: Callable[..., Tensor] = F.cross_entropy, every: int = 5,
) -> Record:  # fmt: skip
    """Train for some epochs of these batches."""
    model = mlp(64, 64, 10) if model is None else model
    optimizer = sgd(model, 0.05)
    with lampwork.watch(model, every=every, dir=digits.folder, pictures=False) as run:
        for _ in range(epochs):
            for x, y in batches():
                value = loss(model(x), y)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                run.log(loss=value)
    assert run.path is not None
    return Record(run.path)


def pixels_from_0_to_255(digits: Digits, faulty: bool) -> Record:
    """Images as they come from a file."""
    digits.x = digits.x * (255.0 if faulty else 1.0)
    model = mlp(64, 64, 10)
    return digits.train(model, adam(model, 1e-3))


def gap_in_a_table(digits: Digits, faulty: bool) -> Record:
    """One value of one sample is missing."""
    if faulty:
        digits.x = digits.x.clone()
        digits.x[3, 5] = float("nan")
    loader = lampwork.DataLoader(TensorDataset(digits.x[:640], digits.y[:640]), 64)
    return over(digits, lambda: loader)


def sorted_by_class(digits: Digits, faulty: bool) -> Record:
    """A folder for each class, and no shuffling."""
    order = digits.y.argsort(stable=True)
    loader = lampwork.DataLoader(
        TensorDataset(digits.x[order], digits.y[order]), 32, shuffle=not faulty
    )
    return over(digits, lambda: loader, epochs=1)


def one_label_for_all(digits: Digits, faulty: bool) -> Record:
    """Labels that were read wrongly."""
    if faulty:
        digits.y = torch.full_like(digits.y, 4)
    model = mlp(64, 64, 10)
    return digits.train(model, sgd(model))


class Blind(Dataset):
    """A dataset that may ignore its index."""

    def __init__(self, x: Tensor, y: Tensor, blind: bool) -> None:
        self.x, self.y, self.blind = x, y, blind

    def __len__(self) -> int:
        return 640

    def __getitem__(self, index: int) -> Batch:
        index = 7 if self.blind else index
        return self.x[index], self.y[index]


def index_ignored(digits: Digits, faulty: bool) -> Record:
    """Each sample is the same one."""
    loader = lampwork.DataLoader(Blind(digits.x, digits.y, faulty), 32)
    return over(digits, lambda: loader, epochs=1)


def first_batch_each_time(digits: Digits, faulty: bool) -> Record:
    """`next(iter(loader))` in the loop."""
    loader = lampwork.DataLoader(TensorDataset(digits.x, digits.y), 64)

    def batches() -> Iterable[Batch]:
        return (next(iter(loader)) for _ in range(20)) if faulty else loader

    return over(digits, batches)


class Stream(IterableDataset):
    """All images in turn; each worker may give all of them."""

    def __init__(self, x: Tensor, y: Tensor, shared: bool) -> None:
        self.x, self.y, self.shared = x, y, shared

    def __iter__(self) -> Iterable[Batch]:
        info = get_worker_info()
        mine = slice(info.id, None, info.num_workers) if info and self.shared else slice(None)
        yield from zip(self.x[:640][mine], self.y[:640][mine], strict=True)


def stream_not_shared_out(digits: Digits, faulty: bool) -> Record:
    """Each of two workers gives the whole stream."""
    loader = lampwork.DataLoader(Stream(digits.x, digits.y, shared=not faulty), 32, num_workers=2)
    return over(digits, lambda: loader, epochs=1)


@pytest.mark.parametrize(
    ("case", "code", "where"),
    [
        (pixels_from_0_to_255, "data-unscaled", None),
        (gap_in_a_table, "data-nonfinite", "TensorDataset"),
        (sorted_by_class, "data-not-shuffled", "TensorDataset"),
        (one_label_for_all, "data-single-class", None),
        (index_ignored, "data-repeated", "Blind"),
        (first_batch_each_time, "data-repeated", "TensorDataset"),
        (stream_not_shared_out, "data-repeated", "Stream"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_bad_batches_are_named_first(digits, images, case, code, where):
    """The finding names the dataset, where there is one; the twin passes."""
    found = diagnose(case(digits, True))
    assert (found[0].code, found[0].where) == (code, where)
    assert len(found[0].advice.splitlines()) == 2
    torch.manual_seed(0)
    assert diagnose(case(Digits(*images, digits.folder), False)) == []


def scaled_in_the_model(digits: Digits) -> Record:
    """Pixels from 0 to 255 that `forward` divides."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = mlp(64, 64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x / 255)

    digits.x = digits.x * 255
    model = Scaled()
    return digits.train(model, sgd(model))


def normalised_first(digits: Digits) -> Record:
    """Features of mixed scales behind a batch normalisation."""
    digits.x = digits.x * 10.0 ** (torch.arange(64) % 5)
    model = nn.Sequential(nn.BatchNorm1d(64), mlp(64, 64, 10))
    return digits.train(model, adam(model))


def normalised_right_after(digits: Digits) -> Record:
    """Pixels from 0 to 255 into a convolution with batch normalisation."""
    digits.x = digits.x * 255
    model = cnn()
    return digits.train(model, adam(model), shape=(1, 8, 8))


def token_ids(digits: Digits) -> Record:
    """Integers up to 5000 that are looked up."""
    digits.x = (digits.x * 16).long() + 77 * torch.arange(64)
    model = nn.Sequential(nn.EmbeddingBag(5000, 32), nn.Linear(32, 10))
    return digits.train(model, adam(model, 1e-2))


def whole_set_at_once(digits: Digits) -> Record:
    """Full-batch training, sorted by class."""
    order = digits.y.argsort()
    loader = lampwork.DataLoader(TensorDataset(digits.x[order], digits.y[order]), 1797)
    return over(digits, lambda: loader, epochs=20)


def one_batch_by_heart(digits: Digits) -> Record:
    """A batch that is taken once, of a loader that has more."""
    loader = lampwork.DataLoader(TensorDataset(digits.x, digits.y), 16)
    batch = next(iter(loader))
    return over(digits, lambda: [batch] * 30)


def each_batch_twice(digits: Digits) -> Record:
    """Two steps on each batch (data echoing)."""
    loader = lampwork.DataLoader(TensorDataset(digits.x, digits.y), 64, shuffle=True)
    return over(digits, lambda: (batch for batch in loader for _ in range(2)), epochs=1)


def contrastive(digits: Digits) -> Record:
    """The positive stands at place 0, or on the diagonal: labels that the loss makes up."""
    model = mlp(64, 64, 32)

    def loss(z: Tensor, _: Tensor) -> Tensor:
        z = F.normalize(z, dim=1)
        keys = F.normalize(z + 0.1 * torch.randn_like(z), dim=1).detach()
        logits = torch.cat([(z * keys).sum(1, keepdim=True), z @ keys.roll(1, 0).T], 1) / 0.2
        return F.cross_entropy(logits, torch.zeros(len(z), dtype=torch.long))

    return digits.train(model, adam(model), loss=loss)


def rare_class(digits: Digits) -> Record:
    """Two classes, of which one sample in sixty belongs to the second."""
    rare = torch.rand(len(digits.y), generator=torch.Generator().manual_seed(0)) < 0.17
    digits.y = ((digits.y == 3) & rare).long()
    model = mlp(64, 32, 2)
    return digits.train(model, sgd(model, 0.02), size=32)


def pairs_of_a_class(digits: Digits) -> Record:
    """A sampler of four classes with eight samples each, as metric learning asks for."""
    places = [torch.nonzero(digits.y == c)[:, 0] for c in range(10)]
    chooser = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        chosen = torch.randperm(10, generator=chooser)[:4]
        return torch.cat([places[c][torch.randperm(100, generator=chooser)[:8]] for c in chosen])

    sampler = [draw().tolist() for _ in range(40)]
    loader = lampwork.DataLoader(TensorDataset(digits.x, digits.y), batch_sampler=sampler)
    return over(digits, lambda: loader, epochs=1)


def classes_one_task_after_another(digits: Digits) -> Record:
    """Continual learning: two classes at a time, shuffled within."""

    def batches() -> Iterable[Batch]:
        for first in (0, 2, 4, 6, 8):
            own = (digits.y == first) | (digits.y == first + 1)
            data = TensorDataset(digits.x[own], digits.y[own])
            yield from lampwork.DataLoader(data, 32, shuffle=True)

    return over(digits, batches, epochs=1)


@pytest.mark.parametrize(
    "case",
    [
        scaled_in_the_model, normalised_first, normalised_right_after, token_ids,
        whole_set_at_once, one_batch_by_heart, each_batch_twice, contrastive, rare_class,
        pairs_of_a_class, classes_one_task_after_another,
    ],
    ids=lambda case: case.__name__,
)  # fmt: skip
def test_sound_batches_are_not_accused(digits, case):
    """What only looks like a fault of the data raises nothing."""
    assert diagnose(case(digits)) == []
