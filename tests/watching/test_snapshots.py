"""When pictures are taken, how large they are, and that training does not notice."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import lampwork
from lampwork.taps.tap import release
from lampwork.watching import snapshots as module
from lampwork.watching.guard import Guard
from lampwork.watching.snapshots import Snapshots
from tests.watching.specimen import hooks_of
from tests.watching.training import record_of

LIMIT_BYTES = 640_000
"""What one picture step may add to a record before it is deflated."""


def taken(model, *args, **kwargs):
    """The pictures after one training forward, by kind."""
    found = Snapshots(model, Guard(lambda: None))
    found.install()
    model(*args, **kwargs)
    found.remove()
    assert hooks_of(model) == []
    shots = found.take()
    assert sum(shot.pixels.numel() for shot in shots) <= LIMIT_BYTES
    assert all(shot.pixels.dtype == torch.uint8 for shot in shots)
    return {(shot.kind, shot.name): shot.pixels for shot in shots}


def cnn(**options):
    """Batch norm, dropout, in-place ReLUs."""
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]
    layers += [nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 64, 4))


class Checkpointed(nn.Module):
    """The first part is computed twice."""

    def __init__(self, reentrant):
        super().__init__()
        self.first, self.reentrant = cnn()[:6], reentrant
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = checkpoint(self.first, x, use_reentrant=self.reentrant)
        return self.head(x.mean((2, 3)))


def grey(image):
    """One image from black to white, in NumPy."""
    image = image.double().numpy()
    return np.round((image - image.min()) / (image.max() - image.min()) * 255)


def test_feature_maps_are_those_of_the_first_example_in_eval_mode():
    """Each map is on its own scale, of the layer's output for one example by itself."""
    torch.manual_seed(0)
    model, x = cnn(), torch.randn(6, 3, 16, 16)
    found = taken(model, x)
    expected = model.eval()[0](x[:1])[0].detach()
    pixels = found["feature_maps", "0"]
    assert pixels.shape == expected.shape
    for got, image in zip(pixels, expected, strict=True):
        # Rounding of float32 may tip a pixel over.
        assert np.abs(got.numpy() - grey(image)).max() <= 1
    assert found["input", ""].shape == (4, 16, 16, 3)
    assert found["grad_cam", "5"].shape == found["saliency", ""].shape == (4, 16, 16)


@pytest.mark.parametrize("make", [cnn, lambda: Checkpointed(True), lambda: Checkpointed(False)])
def test_training_with_pictures_is_bitwise_that_without(tmp_path, monkeypatch, make):
    """Weights, batch norm, random state and losses are equal, with validation between the steps."""
    monkeypatch.setattr(module, "SHARE", torch.inf)

    def trained(pictures):
        torch.manual_seed(0)
        model, losses = make(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        run = lampwork.watch(model, every=1, dir=tmp_path, pictures=pictures)
        with run:
            for _ in range(4):
                x = torch.randn(6, 3, 16, 16, requires_grad=True)
                loss = F.cross_entropy(model(x), torch.randint(4, (6,)))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    model.eval()(x)
                model.train()
                losses.append(loss.item())
        return model.state_dict(), losses, torch.get_rng_state(), record_of(run).pictures

    with_us, without = trained(True), trained(False)
    assert {p.step for p in with_us[3] if p.kind == "feature_maps"} == {0, 1, 2, 4}
    assert without[3] == []
    assert with_us[1] == without[1]
    assert torch.equal(with_us[2], without[2])
    for name, value in with_us[0].items():
        assert torch.equal(value, without[0][name]), name


def test_large_images_stay_small():
    """Whatever comes in, a side has 64 pixels at most and a step 640 kB."""
    found = taken(
        nn.Sequential(nn.Conv2d(3, 100, 3), nn.Conv2d(100, 4, 3)), torch.randn(2, 3, 200, 50)
    )
    assert found["feature_maps", "0"].shape == (16, 64, 48)
    assert found["input", ""].shape == (2, 64, 50, 3)
    assert found["kernels", "0"].shape == (32, 3, 3, 3)


def test_long_sequences_stay_small():
    """Attention over 700 tokens is at most 64 × 64 a head, and heads and layers are few."""
    layer = nn.TransformerEncoderLayer(64, 16, 8, batch_first=True)
    found = taken(
        nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), torch.randn(1, 700, 64)
    )
    maps = [pixels for (kind, _), pixels in found.items() if kind == "attention"]
    assert [pixels.shape for pixels in maps] == [(8, 64, 64)] * 4


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1)), torch.randn(7, 5)),
        (nn.LSTM(5, 6), torch.randn(4, 3, 5)),
        (
            nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)),
            torch.ones(5, 3).long(),
        ),
        (nn.Conv1d(2, 3, 3), torch.randn(2, 2, 9)),
    ],
    ids=["mlp", "lstm", "tokens", "conv1d"],
)
def test_models_without_images_show_their_matrices_or_nothing(model, x):
    """Nothing breaks; there is no input and no map."""
    kinds = {kind for kind, _ in taken(model, x)}
    assert kinds <= {"weights", "weights_change"}
    assert bool(kinds) == (not isinstance(model, nn.Conv1d))


def test_a_forward_that_fails_apart_costs_only_its_own_pictures(caplog):
    """Where the model cannot be run in eval mode, kernels are shown and nothing is said."""

    class Picky(nn.Conv2d):
        def forward(self, x):
            assert self.training, "only for training"
            return super().forward(x)

    assert {kind for kind, _ in taken(Picky(1, 2, 3), torch.randn(2, 1, 8, 8))} == {
        "kernels",
        "kernels_change",
    }
    assert caplog.records == []


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch.compile's, of what it cannot trace
def test_a_compiled_model_keeps_its_pictures_or_does_without(caplog):
    """Under torch.compile nothing is raised and no hook is left; kernels are shown at least."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    found = Snapshots(model, Guard(lambda: None))
    found.install()
    compiled = torch.compile(model, backend="eager")
    compiled(torch.randn(2, 1, 8, 8))
    found.remove()
    compiled(torch.randn(2, 1, 8, 8))
    release(model.modules())  # as the watch does at its end
    assert hooks_of(model) == []
    assert {"kernels", "kernels_change"} <= {shot.kind for shot in found.take()}
    assert [r for r in caplog.records if r.name == "lampwork" and r.levelno > logging.DEBUG] == []


def test_pictures_come_at_doubling_distances(monkeypatch):
    """Of the recorded steps 0, 10, 20, … few have pictures, however long the run."""
    monkeypatch.setattr(module, "SHARE", torch.inf)
    snapshots = Snapshots(nn.Conv2d(1, 1, 1), Guard(lambda: None))
    due = [step for step in range(0, 1000, 10) if snapshots.due(step)]
    assert due == [0, 10, 20, 40, 80, 160, 320, 640]


def test_pictures_wait_until_they_are_paid_for(monkeypatch):
    """What the last ones cost must be a hundredth of the time since the start."""
    now = [0.0]
    monkeypatch.setattr(module, "monotonic_s", lambda: now[0])
    snapshots = Snapshots(nn.Conv2d(1, 1, 1), Guard(lambda: None))
    assert snapshots.due(0)
    works = snapshots._kernels.take

    def slow(*args):
        now[0] += 0.5
        return works(*args)

    snapshots._kernels.take = slow
    snapshots.take()
    now[0] = 49.9
    assert not snapshots.due(10)
    now[0] = 50.1
    assert snapshots.due(20)
