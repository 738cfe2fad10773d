"""What the benchmark of watching on CUDA trains: ResNet-50 and GPT-2-small, of plain modules."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 with a shortcut (He et al. 2015), in place where torchvision's is."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inside != 4 * width:
            shortcut = nn.Conv2d(inside, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        return self.relu(out)


class ResNet50(nn.Sequential):
    def __init__(self) -> None:
        stem = (nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        blocks, inside = [], 64
        for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for i in range(count):
                blocks.append(Bottleneck(inside, width, stride if i == 0 else 1))
                inside = 4 * width
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))
        super().__init__(*stem, nn.MaxPool2d(3, 2, 1), *blocks, *head)


class Layer(nn.Module):
    """One layer of GPT-2 (Radford et al. 2019)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.act = nn.Linear(width, 4 * width), nn.GELU()
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        parts = self.qkv(self.ln_1(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.down(self.act(self.up(self.ln_2(x))))


class GPT2(nn.Module):
    """124 million parameters, embedding and head tied."""

    def __init__(self, layers: int = 12, width: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50257, width), nn.Embedding(1024, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 50257, bias=False)
        self.head.weight = self.tokens.weight
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class Step:
    """A model on a device with its one batch, its optimizer and its step under bfloat16 autocast.

    Args:
        name: "ResNet-50" or "GPT-2".
        device: where to.
        small: a tiny version, to see that it runs.
        layers: of GPT-2.

    Attributes:
        called: the model, or what torch.compile made of it.
    """

    def __init__(self, name: str, device: str, *, small: bool = False, layers: int = 12) -> None:
        torch.manual_seed(0)
        self.device = torch.device(device)
        if name == "ResNet-50":
            self.model: nn.Module = ResNet50().to(self.device, memory_format=torch.channels_last)
            images = torch.randn((2, 3, 64, 64) if small else (64, 3, 224, 224))
            self.x = images.to(self.device, memory_format=torch.channels_last)
            self.y = torch.randint(1000, (len(images),), device=self.device)
            self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
                self.model.parameters(), lr=1e-3, momentum=0.9
            )
        else:
            made = GPT2(2, 64, 4) if small else GPT2(layers)
            self.model = made.to(self.device)
            shape = (2, 64) if small else (8, 1024)
            self.x = torch.randint(50257, shape, device=self.device)
            self.y = torch.randint(50257, shape, device=self.device).flatten()
            self.optimizer = torch.optim.AdamW(
                self.model.parameters(), lr=1e-4, fused=self.device.type == "cuda"
            )
        self.called: Callable[[Tensor], Tensor] = self.model

    def run(self, count: int) -> None:
        """So many steps; nothing in them waits for the device."""
        for _ in range(count):
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16):
                out = self.called(self.x)
                loss = F.cross_entropy(out.flatten(0, -2).float(), self.y)
            loss.backward()
            self.optimizer.step()
