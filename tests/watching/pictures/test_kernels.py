"""Pictures of weights against the weights."""

import pytest
import torch
from torch import nn

from lampwork.watching.pictures.kernels import MOST_KERNELS, Kernels


def by_kind(kernels, **options):
    """The pictures by name and kind."""
    return {(shot.name, shot.kind): shot.pixels for shot in kernels.take(**options)}


def signed(values, scale):
    """128 for zero, the other way round than it is computed."""
    return (128 + 127 * (values / scale).clamp(-1, 1)).round().to(torch.uint8)


def test_kernels_and_their_change_have_one_scale():
    """Zero is 128 in both, the present largest weight 1 or 255; the change begins as nothing."""
    model = nn.Conv2d(1, 5, 3)
    kernels = Kernels(model)
    start = model.weight.detach().clone()
    first = by_kind(kernels)
    assert (first["", "kernels_change"] == 128).all()
    with torch.no_grad():
        model.weight.add_(0.1 * torch.randn_like(model.weight))
    later = by_kind(kernels)
    now, scale = model.weight.detach(), model.weight.abs().max()
    assert torch.equal(later["", "kernels"], signed(now[:, 0], scale))
    assert torch.equal(later["", "kernels_change"], signed((now - start)[:, 0], scale))


def test_first_middle_and_last_convolution_and_the_head_are_shown():
    """Kernels of one pixel are not; those over three channels are in colour."""
    layers = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), *(nn.Conv2d(4, 99, 3) for _ in range(4))]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(9, 200))
    found = by_kind(Kernels(model))
    assert list(found) == [
        (name, kind + more) for name, kind in
        (("0", "kernels"), ("3", "kernels"), ("5", "kernels"), ("7.weight", "weights"))
        for more in ("", "_change")
    ]  # fmt: skip
    assert found["0", "kernels"].shape == (4, 3, 3, 3)
    assert found["5", "kernels"].shape == (MOST_KERNELS, 3, 3)
    assert found["7.weight", "weights"].shape == (1, 64, 9)


def test_linear_layers_over_pixels_are_images():
    """Rows of the matrix behind a Flatten have the shape of the input; other matrices do not."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 5, 7), nn.Linear(7, 2))
    found = by_kind(Kernels(model), image=(3, 4, 5))
    rows = model[1].weight.detach().view(7, 3, 4, 5).permute(0, 2, 3, 1)
    assert torch.equal(found["1.weight", "kernels"], signed(rows, rows.abs().max()))
    assert found["2.weight", "weights"].shape == (1, 2, 7)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0])
def test_flat_and_broken_weights_are_pictures_too(value):
    """Zero, NaN and infinite weights raise nothing."""
    model = nn.Conv2d(1, 2, 3)
    nn.init.constant_(model.weight, value)
    assert (by_kind(Kernels(model))["", "kernels"] == 128).all()


@pytest.mark.parametrize(
    "model",
    [nn.LazyLinear(3), nn.Linear(3, 3, device="meta"), nn.BatchNorm1d(4), nn.Conv1d(1, 1, 1)],
)
def test_what_has_no_matrix_of_numbers_has_no_picture(model):
    """Lazy and meta weights and vectors are left out."""
    assert Kernels(model).take() == []
