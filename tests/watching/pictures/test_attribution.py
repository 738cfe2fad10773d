"""Grad-CAM and saliency against autograd by hand, on networks that hide their last layer."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lampwork.watching.pictures.attribution import Seen, grad_cam, last_spatial, patch_grid
from lampwork.watching.pictures.forward import look
from lampwork.watching.pictures.probe import few


class CNN(nn.Module):
    """In-place ReLU after the last convolution, pooled to one place."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 5, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(5, 3)

    def maps(self, x):
        return F.relu(self.last(F.max_pool2d(F.relu(self.norm(self.first(x))), 2)))

    def forward(self, x):
        x = self.relu(self.last(F.max_pool2d(self.relu(self.norm(self.first(x))), 2)))
        return self.head(x.mean((2, 3)))


class ViT(nn.Module):
    """Class token and one register before the patches; the class token alone is read."""

    def __init__(self, prefix=2, pooled=False, convolution=True):
        super().__init__()
        self.prefix, self.pooled, self.convolution = prefix, pooled, convolution
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.flat = nn.Linear(48, 8)
        self.tokens = nn.Parameter(torch.randn(1, prefix, 8))
        self.places = nn.Parameter(torch.randn(1, 16 + prefix, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, norm_first=True, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def embedded(self, x):
        if self.convolution:
            x = self.patches(x).flatten(2).transpose(1, 2)
        else:
            x = self.flat(F.unfold(x, 4, stride=4).transpose(1, 2))
        return torch.cat([self.tokens.expand(len(x), -1, -1), x], 1) + self.places

    def forward(self, x):
        x = self.norm(self.block(self.embedded(x)))
        return self.head(x.mean(1) if self.pooled else x[:, 0])


def seen(model, x, labels=None):
    """What the probe's passes gave, and the layer that was chosen."""
    probe = few("", model, ((x,), {}))
    probe.labels = labels
    result = look(probe)
    size = tuple(x.shape[-2:])
    return result, last_spatial(result.seen, size, patch_grid(result.grids, size))


@pytest.mark.parametrize("labels", [None, torch.tensor([0, 2, 1]), torch.tensor([-1, 1, -1])])
def test_grad_cam_of_a_cnn_is_that_of_autograd(labels):
    """Maps and saliency are those of the true class, or the predicted where that is unknown."""
    torch.manual_seed(0)
    model, x = CNN().eval(), torch.randn(3, 3, 12, 12)
    result, layer = seen(model, x, labels)
    assert layer.name == "relu#2"
    x.requires_grad_()
    maps = model.maps(x)
    logits = model.head(maps.mean((2, 3)))
    target = logits.argmax(1) if labels is None else labels.where(labels >= 0, logits.argmax(1))
    score = logits[range(3), target].sum()
    by_maps, by_input = torch.autograd.grad(score, [maps, x])
    expected = torch.einsum("nc,nchw->nhw", by_maps.mean((2, 3)), maps).relu()
    torch.testing.assert_close(grad_cam(layer), expected.detach())
    torch.testing.assert_close(result.gradient, by_input)


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("convolution", [True, False])
def test_grad_cam_of_a_vit_finds_grid_and_layer(prefix, convolution):
    """Tokens before the patches are left out; the layer is the norm before the last attention."""
    torch.manual_seed(0)
    model, x = ViT(prefix, prefix == 0, convolution).eval(), torch.randn(2, 3, 16, 16)
    _, layer = seen(model, x)
    if prefix == 0:
        assert layer.name == "norm"
        return
    assert layer.name == "block.norm1"
    stream = model.embedded(x)
    tokens = model.block.norm1(stream)
    stream = stream + model.block._sa_block(tokens, None, None)
    stream = stream + model.block._ff_block(model.block.norm2(stream))
    logits = model.head(model.norm(stream)[:, 0])
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), [tokens])
    patches, weight = tokens[:, prefix:], gradient[:, prefix:].mean(1)
    expected = torch.einsum("nc,ntc->nt", weight, patches).relu().unflatten(1, (4, 4))
    torch.testing.assert_close(grad_cam(layer), expected.detach())


def test_channels_last_are_brought_first():
    """Feature maps of shape (n, h, w, C), as Swin has them, count as well."""
    values, gradient = torch.randn(2, 1, 4, 6, 5)
    layer = last_spatial([Seen("swin", values, gradient, False)], (32, 48), None)
    assert layer.activation.shape == (1, 5, 4, 6)


@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (1, 9, 3), (1, 4, 65, 64), (1, 4, 9, 2)])
def test_what_is_not_on_the_image_is_no_layer(shape):
    """Pooled outputs, odd sequences, and queries by width are not taken for places."""
    values = torch.ones(shape)
    found = last_spatial([Seen("x", values, values, False)], (64, 96), None)
    assert found is None


def test_a_model_without_scores_has_no_attribution():
    """An autoencoder is left alone: there is no class to ask for."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1))
    result, layer = seen(model, torch.randn(2, 1, 8, 8))
    assert (result.gradient, layer) == (None, None)
    assert list(result.maps) == ["0", "1"]
