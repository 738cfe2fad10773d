"""Small grey pictures of the first convolution."""

import numpy as np
import pytest
import torch
from torch import nn

from lampwork.watching.guard import Guard
from lampwork.watching.snapshots import MAX_MAPS, MAX_SIDE, Snapshots
from tests.watching.specimen import hooks_of


def taken(model, *batches):
    """The pictures after the model has seen these batches, by kind."""
    snapshots = Snapshots(model, Guard(lambda: None))
    snapshots.install()
    for batch in batches:
        model(batch)
    snapshots.remove()
    assert hooks_of(model) == []
    return {shot.kind: shot for shot in snapshots.take()}


def grey(image):
    """One image from black to white, in NumPy."""
    image = image.double().numpy()
    return np.round((image - image.min()) / (image.max() - image.min()) * 255)


def test_pictures_are_kernels_input_and_feature_maps():
    """Each picture is a stack of images, every one of them on its own scale from 0 to 255."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), nn.Conv2d(3, 5, 3), nn.ReLU())
    batch = torch.randn(4, 3, 9, 8)
    shots = taken(model, batch)
    assert list(shots) == ["kernels", "input", "feature_maps"]
    expected = {
        "kernels": model[1].weight.detach().mean(1),
        "input": batch[:1].mean(1),
        "feature_maps": model[1](batch[:1])[0].detach(),
    }
    for kind, images in expected.items():
        pixels = shots[kind].pixels
        assert (shots[kind].name, pixels.dtype) == ("1", torch.uint8)
        assert pixels.shape == images.shape
        for got, image in zip(pixels, images, strict=True):
            # Rounding of float32 may tip a pixel over.
            assert np.abs(got.numpy() - grey(image)).max() <= 1


def test_the_probe_is_always_the_same_example():
    """What comes after the first batch changes no picture; a change of the weights does."""
    model = nn.Conv2d(1, 2, 3)
    snapshots = Snapshots(model, Guard(lambda: None))
    snapshots.install()
    first, later = torch.randn(3, 1, 6, 6), torch.randn(3, 1, 6, 6)
    model(first)
    before = [shot.pixels for shot in snapshots.take()]
    model(later)
    snapshots.remove()
    snapshots.install()  # idle: the probe is taken
    assert hooks_of(model) == []
    first.zero_()  # the probe is a copy
    assert all(map(torch.equal, before, [shot.pixels for shot in snapshots.take()]))
    with torch.no_grad():
        model.weight.copy_(torch.randn_like(model.weight))
    kernels, same_input, maps = (shot.pixels for shot in snapshots.take())
    assert torch.equal(same_input, before[1])
    assert not torch.equal(kernels, before[0])
    assert not torch.equal(maps, before[2])


def test_pictures_stay_small():
    """Large images are averaged down and many maps are cut off."""
    shots = taken(nn.Conv2d(1, 100, 3), torch.randn(1, 1, 200, 50))
    assert shots["feature_maps"].pixels.shape == (MAX_MAPS, MAX_SIDE, 48)
    assert shots["input"].pixels.shape == (1, MAX_SIDE, 50)
    assert shots["kernels"].pixels.shape == (2 * MAX_MAPS, 3, 3)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.Conv1d(1, 1, 1)])
def test_without_an_image_convolution_there_are_none(model):
    """A model without Conv2d has no pictures and gets no hook."""
    snapshots = Snapshots(model, Guard(lambda: None))
    snapshots.install()
    assert hooks_of(model) == []
    assert snapshots.take() == []


def test_a_convolution_that_is_not_called_shows_its_kernels():
    """Without an input there are kernels and nothing else."""
    assert list(taken(nn.Conv2d(1, 2, 3))) == ["kernels"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0])
def test_flat_and_broken_images_are_pictures_too(value):
    """Constant kernels are black, and NaN or infinite ones raise nothing."""
    model = nn.Conv2d(1, 2, 3)
    nn.init.constant_(model.weight, value)
    shots = taken(model, torch.randn(1, 1, 5, 5))
    assert shots["kernels"].pixels.max() == 0
    assert shots["feature_maps"].pixels.shape == (2, 3, 3)


class Noisy(nn.Conv2d):
    """A convolution that draws random numbers and wants a second input."""

    def forward(self, x, strength):
        return super().forward(x) + strength * torch.randn(1)


def test_a_subclass_is_shown_as_the_plain_convolution():
    """A convolution with a forward of its own costs neither the pictures nor a random number."""
    model = Noisy(1, 2, 3)
    snapshots = Snapshots(model, Guard(lambda: None))
    snapshots.install()
    model(torch.randn(1, 1, 5, 5), 0.5)
    state = torch.get_rng_state()
    assert [shot.kind for shot in snapshots.take()] == ["kernels", "input", "feature_maps"]
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_that_were_cast_still_meet_the_probe():
    """Where autocast made the input half, or the user the weights, feature maps are shown."""
    model = nn.Conv2d(1, 2, 3)
    snapshots = Snapshots(model, Guard(lambda: None))
    snapshots.install()
    model(torch.randn(1, 1, 5, 5))
    model.to(torch.bfloat16)
    assert snapshots.take()[2].pixels.shape == (2, 3, 3)


def test_batches_without_an_image_are_waited_out():
    """An unbatched image and an empty batch are no probe; the next batch is."""
    model = nn.Conv2d(1, 2, 3)
    wanted = torch.randn(2, 1, 5, 5)
    shots = taken(model, torch.randn(1, 5, 5), torch.randn(0, 1, 5, 5), wanted, wanted + 1)
    assert np.abs(shots["input"].pixels[0].numpy() - grey(wanted[0, 0])).max() <= 1


def test_pictures_come_at_doubling_distances():
    """Of the recorded steps 0, 10, 20, … few have pictures, however long the run."""
    snapshots = Snapshots(nn.Conv2d(1, 1, 1), Guard(lambda: None))
    due = [step for step in range(0, 1000, 10) if snapshots.due(step)]
    assert due == [0, 10, 20, 40, 80, 160, 320, 640]
