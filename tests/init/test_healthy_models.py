"""Sound models that look odd to a careless check: none of them is accused, as built or planned."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import lampwork as lw


def _noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def _ids(high=30):
    return torch.randint(high, (8, 10), generator=torch.Generator().manual_seed(3))


class Residual(nn.Module):
    """A basic block of a ResNet, the scale of its last normalisation 0."""

    def __init__(self, zero=True):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        if zero:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x):
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class LoRA(nn.Module):
    """A frozen layer and two small matrices, the second of zeros."""

    def __init__(self, width):
        super().__init__()
        self.base = nn.Linear(width, width).requires_grad_(False)
        self.a, self.b = nn.Linear(width, 4, bias=False), nn.Linear(4, width, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


class AdaLNZero(nn.Module):
    """A diffusion transformer: gates and the last layer are 0, so gates get no gradient yet."""

    def __init__(self, width=16):
        super().__init__()
        self.time = nn.Linear(1, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.final = nn.Linear(width, width)
        for layer in (*self.gates, self.final):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x, t):
        t = F.silu(self.time(t))
        for block, gate in zip(self.blocks, self.gates, strict=True):
            x = x + gate(t) * block(F.layer_norm(x, x.shape[-1:]))
        return self.final(x)


class ViT(nn.Module):
    """Class token and positions of zeros."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.block(x)[:, 0])


class MoE(nn.Module):
    """Experts of which this batch chooses one."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(16, 8)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(8))

    def forward(self, x):
        weights = self.router(x).softmax(-1)
        chosen = int(weights[0].argmax())
        return x + weights[:, chosen : chosen + 1] * self.experts[chosen](x)


class Momentum(nn.Module):
    """A query encoder and the frozen copy that follows it."""

    def __init__(self):
        super().__init__()
        self.query = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
        self.key = copy.deepcopy(self.query).requires_grad_(False)

    def forward(self, x):
        return self.query(x) @ self.key(x).T


class SqueezeExcite(nn.Module):
    """Depthwise, and a gate of sigmoids."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False)
        self.bn = nn.BatchNorm2d(32)
        self.down, self.up = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)

    def forward(self, x):
        x = F.relu6(self.bn(self.conv(x)))
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Unet(nn.Module):
    """Without normalisation, as torch draws it."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, 2, 1)
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)
        self.out = nn.Conv2d(32, 4, 1)

    def forward(self, x):
        high = F.relu(self.down1(x))
        return self.out(torch.cat([high, F.relu(self.up(F.relu(self.down2(high))))], 1))


class Recurrent(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.embed = nn.Embedding(100, 16, padding_idx=0)
        self.rnn = cell(16, 24, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(48, 5)

    def forward(self, ids):
        return self.head(self.rnn(self.embed(ids))[0][:, -1])


def _mobile():
    return nn.Sequential(nn.Conv2d(3, 32, 3), SqueezeExcite(), nn.Flatten(), nn.Linear(1152, 5))


def _resnet():
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    blocks = [Residual(zero=place % 2 == 0) for place in range(5)]
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


def _lenet():
    layers = [nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 3)]
    return nn.Sequential(*layers, nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 10))


def _mlp(*sizes, dtype=torch.float32):
    pairs = pairwise(sizes)
    layers = [m for pair in pairs for m in (nn.Linear(*pair, dtype=dtype), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


Y5, Y10 = torch.arange(8) % 5, torch.arange(8) % 10
CLASSES = torch.arange(64) % 5

MODELS = {
    "one layer": (lambda: nn.Linear(1, 1), _noise(32, 1), None),
    "a wide layer on one feature": (lambda: _mlp(1, 256, 1), _noise(32, 1), _noise(32, 1)),
    "two units": (lambda: _mlp(4, 2, 2), _noise(64, 4), torch.arange(64) % 2),
    "six layers": (lambda: _mlp(16, *[32] * 5, 5), _noise(64, 16), CLASSES),
    "bfloat16": (
        lambda: _mlp(2, 256, 256, 5, dtype=torch.bfloat16),
        _noise(64, 2).bfloat16(),
        CLASSES,
    ),
    "LeNet with sigmoids": (_lenet, _noise(64, 1, 8, 8), torch.arange(64) % 10),
    "ResNet with zero γ": (_resnet, _noise(8, 3, 8, 8), Y5),
    "MobileNet block": (_mobile, _noise(8, 3, 8, 8), Y5),
    "U-Net": (Unet, _noise(4, 3, 8, 8), torch.randint(4, (4, 8, 8))),
    "LoRA": (lambda: nn.Sequential(LoRA(16), nn.ReLU(), LoRA(16)), _noise(32, 16), None),
    "DiT": (AdaLNZero, (_noise(32, 16), _noise(32, 1)), _noise(32, 16)),
    "ViT": (ViT, _noise(8, 3, 8, 8), Y5),
    "mixture of experts": (MoE, _noise(4, 16), None),
    "momentum encoder": (Momentum, _noise(32, 16), torch.arange(32)),
    "LSTM": (lambda: Recurrent(nn.LSTM), _ids(), Y5),
    "GRU": (lambda: Recurrent(nn.GRU), _ids(), Y5),
    "weight norm": (
        lambda: nn.Sequential(weight_norm(nn.Linear(16, 32)), nn.Tanh(), nn.Linear(32, 5)),
        _noise(64, 16),
        CLASSES,
    ),
    "spectral norm": (
        lambda: nn.Sequential(spectral_norm(nn.Linear(16, 32)), nn.ReLU(), nn.Linear(32, 5)),
        _noise(64, 16),
        CLASSES,
    ),
    "all frozen": (lambda: _mlp(16, 32, 5).requires_grad_(False), _noise(64, 16), CLASSES),
    "identity": (
        lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).apply(
            lambda m: nn.init.eye_(m.weight) if isinstance(m, nn.Linear) else None
        ),
        _noise(32, 8),
        None,
    ),
}


@pytest.mark.parametrize("planned", [False, True], ids=["as built", "planned"])
@pytest.mark.parametrize("name", MODELS)
def test_a_sound_model_is_not_accused(name, planned):
    """Neither as its author built it, nor with the automatic plan applied."""
    torch.manual_seed(0)
    build, x, y = MODELS[name]
    model = build()
    plan = lw.init.plan(model, x)
    if planned:
        plan.apply(seed=0)
    assert plan.verify(x, y).findings == []


@pytest.mark.parametrize("evaluating", [False, True])
def test_modes_do_not_make_a_sound_model_look_faulty(evaluating):
    """A new BatchNorm has no statistics to evaluate with; dropout puts out zeros."""
    torch.manual_seed(0)
    layers = [m for _ in range(6) for m in (nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Dropout(0.9), nn.Linear(16, 5)).train(not evaluating)
    assert lw.init.plan(model, _noise(64, 16)).verify(_noise(64, 16), CLASSES).findings == []
