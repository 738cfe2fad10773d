"""Question: what does LSUV cost in one pass against a pass for each layer?

Plain ReLU networks of L linear layers of 256 units and of L convolutions of 16 channels, batches of
128 and 16, from the same orthogonal weights. The layer-by-layer side is the algorithm as published
(Mishkin & Matas 2016): for each layer a pass to measure, a division, and a pass to see whether the
variance is within the tolerance. Beside it the authors' package `lsuv`, where it is installed. All
sides run in turn; the weights that result are compared first.

    python benchmarks/bench_init_lsuv.py [--quick]
"""

from __future__ import annotations

import copy
import importlib.util
import io
import time
from collections.abc import Callable
from contextlib import redirect_stdout

import torch
from ratios import Ratio, write
from torch import Tensor, nn
from turns import ROUNDS, in_order, options, ratio

import lampwork as lw

DEPTHS = (10, 30)
TOLERANCE = 0.01


def linear(depth: int) -> tuple[nn.Module, Tensor]:
    layers = [m for _ in range(depth) for m in (nn.Linear(256, 256), nn.ReLU())]
    return nn.Sequential(*layers), torch.randn(128, 256)


def convolutions(depth: int) -> tuple[nn.Module, Tensor]:
    layers = [m for _ in range(depth) for m in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*layers), torch.randn(16, 16, 16, 16)


def prepared(build: Callable, depth: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model, x = build(depth)
    lw.init.initialize(model, scheme="orthogonal")
    return model, x


def one_pass(model: nn.Module, x: Tensor) -> None:
    lw.init.lsuv(model, x, orthogonal=False)


def layer_by_layer(model: nn.Module, x: Tensor, most: int = 10) -> None:
    """Algorithm 1 of the paper."""
    training = model.training
    model.eval()
    seen: list[Tensor] = []
    with torch.no_grad():
        for layer in [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]:
            handle = layer.register_forward_hook(lambda m, args, output: seen.append(output))
            for _ in range(most):
                model(x)
                variance = seen.pop().var()
                if abs(variance - 1.0) < TOLERANCE:
                    break
                layer.weight /= variance.sqrt()
            handle.remove()
    model.train(training)


def package(model: nn.Module, x: Tensor) -> None:
    """The authors' package, without its own orthogonal step."""
    from lsuv import lsuv_with_singlebatch

    with redirect_stdout(io.StringIO()):
        lsuv_with_singlebatch(model, x, std_tol=TOLERANCE, do_orthonorm=False, verbose=False)


def contenders() -> dict[str, Callable[[nn.Module, Tensor], None]]:
    found = {"one pass": one_pass, "layer by layer": layer_by_layer}
    if importlib.util.find_spec("lsuv"):
        found["package lsuv"] = package
    return found


def insist_equal(build: Callable, depth: int) -> None:
    """Both ways end with the same weights, as far as the tolerance of one of them lets them."""
    model, x = prepared(build, depth)
    other = copy.deepcopy(model)
    one_pass(model, x)
    layer_by_layer(other, x)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2 * TOLERANCE, atol=1e-4)


def seconds(build: Callable, depth: int, rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in contenders()}
    for turn in range(-1, rounds):  # the first round warms up
        for name in in_order(found, turn):
            model, x = prepared(build, depth)
            began = time.perf_counter()
            contenders()[name](model, x)
            if turn >= 0:
                found[name].append(time.perf_counter() - began)
    return found


def main() -> None:
    rounds = 2 if options(__doc__).quick else ROUNDS
    torch.set_num_threads(1)
    ratios: dict[str, Ratio] = {}
    goals: dict[str, str] = {}
    for what, build in (("linear", linear), ("convolutional", convolutions)):
        for depth in DEPTHS:
            insist_equal(build, depth)
            taken = seconds(build, depth, rounds)
            for name in [name for name in taken if name != "one pass"]:
                label = f"LSUV, {depth} {what} layers: {name} / one pass"
                ratios[label] = ratio(taken[name], taken["one pass"])
                if name == "layer by layer":
                    goals[label] = f"≥ {depth // 2}"
                print(label, ratios[label])
    if rounds == ROUNDS:
        write("init_lsuv", __doc__, ratios, goals=goals)


if __name__ == "__main__":
    main()
