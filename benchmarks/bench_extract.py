"""Question: what does leaving a model early save, against a full forward with hooks of one's own?

A convolutional net of four stages (as ResNet-18's, 64×64 images), batch 4, without autograd. Asked
for are the outputs of one stage; by hand that is a forward hook on it and the whole forward.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import torch
from ratios import Ratio, write
from torch import Tensor, nn
from turns import in_order, options

import lampwork

Features = Callable[[], Tensor]


def stage(inner: int, outer: int) -> nn.Sequential:
    """Two convolutions that halve the image."""
    layers: list[nn.Module] = []
    for before, stride in ((inner, 2), (outer, 1)):
        layers += [nn.Conv2d(before, outer, 3, stride, 1), nn.BatchNorm2d(outer), nn.ReLU()]
    return nn.Sequential(*layers)


def by_hand(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """The output of one module, as people write it."""
    found: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda module, args, output: found.append(output.clone())
    )
    model(x)
    handle.remove()
    return found[0]


def seconds(call: Features, calls: int) -> float:
    """Of one call."""
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls


def main() -> None:
    """Compare, stage by stage, and keep the result."""
    arguments = options(__doc__)
    rounds, calls = (2, 1) if arguments.quick else (7, 1)
    torch.manual_seed(0)
    widths = (3, 64, 128, 256, 512)
    stages = [stage(a, b) for a, b in pairwise(widths)]
    model = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    model.eval()
    x = torch.randn(4, 3, 64, 64)
    ratios: dict[str, Ratio] = {}
    with torch.no_grad():
        for number in range(5):
            name = "6" if number == 4 else str(number)
            contenders: dict[str, Features] = {
                "extract": lambda name=name: lampwork.extract(model, [name], x)[name],
                "by hand": lambda name=name: by_hand(model, name, x),
            }
            if not torch.equal(contenders["extract"](), contenders["by hand"]()):
                raise SystemExit(f"the features of {name!r} differ")
            pairs = []
            for turn in range(rounds):
                took = {n: seconds(contenders[n], calls) for n in in_order(contenders, turn)}
                pairs.append(took["by hand"] / took["extract"])
            label = "the last layer" if number == 4 else f"stage {number + 1} of 4"
            ratios[f"{label}: full forward with a hook / extract"] = Ratio.of(pairs)
    for label, ratio in ratios.items():
        print(f"{label}: {ratio}")
    if not arguments.quick:
        write("extract", __doc__, ratios)


if __name__ == "__main__":
    main()
