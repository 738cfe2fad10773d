"""Question: what does watching cost with other tools? Steps of the same ResNet-18, as times bare.

Weights & Biases: `watch(log="all", log_freq=1)` and a `log` of the loss at each step, offline.
TensorBoard: `add_histogram` at each step, once of what W&B takes, weights and their gradients, and
once of outputs and their gradients too, by the hooks that people write for it. Lampwork: all of
these and the updates, every step and every tenth. The net is that of `bench_watch_overhead.py`.
Each contender trains a twin in a process of its own, blocks of ten steps in turn, and its record
goes to a folder that is thrown away.

    python -m pip install -e '.[bench]'
    python benchmarks/bench_watch_peers.py [--quick]

Caveat: they show other things. W&B and TensorBoard bin all values between the smallest and the
largest, lampwork counts exponents; and their cure is to look seldom, which all of them allow.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from contenders import Contender, GaveUp
from ratios import Ratio, write
from torch import Tensor, nn
from torch.nn import functional as F
from turns import in_order, options, ratio
from watch_models import Training, resnet

BLOCK, ROUNDS = 10, 5
Logged = Callable[[Tensor], Any]
"""Called with the loss after each step."""


def bare(training: Training, folder: str, end: ExitStack) -> Logged:
    return lambda loss: None


def lampwork(training: Training, folder: str, end: ExitStack, *, every: int) -> Logged:
    import lampwork as lw

    run = end.enter_context(lw.watch(training.model, dir=folder, pictures=False, every=every))
    return lambda loss: run.log(loss=loss)


def wandb(training: Training, folder: str, end: ExitStack) -> Logged:
    os.environ["WANDB_SILENT"] = "true"
    import wandb

    run = wandb.init(mode="offline", dir=folder, project="watching")
    run.watch(training.model, log="all", log_freq=1)
    end.callback(run.finish)
    return lambda loss: run.log({"loss": loss.item()})


def tensorboard(training: Training, folder: str, end: ExitStack, *, outputs: bool) -> Logged:
    from torch.utils.tensorboard import SummaryWriter

    writer = end.enter_context(SummaryWriter(folder))
    steps = 0

    def hook(name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        writer.add_histogram(f"output/{name}", output, steps)
        output.register_hook(lambda g: writer.add_histogram(f"grad_output/{name}", g, steps))

    for name, module in training.model.named_modules() if outputs else ():
        module.register_forward_hook(partial(hook, name))

    def log(loss: Tensor) -> None:
        nonlocal steps
        writer.add_scalar("loss", loss, steps)
        for name, parameter in training.model.named_parameters():
            writer.add_histogram(f"weight/{name}", parameter, steps)
            writer.add_histogram(f"grad/{name}", parameter.grad, steps)
        steps += 1

    return log


PEERS: dict[str, tuple[Callable[..., Logged], str]] = {
    "bare": (bare, "torch"),
    "lampwork, every step": (partial(lampwork, every=1), "lampwork"),
    "lampwork, every 10 steps": (partial(lampwork, every=10), "lampwork"),
    "W&B watch, weights and gradients": (wandb, "wandb"),
    "TensorBoard, weights and gradients": (partial(tensorboard, outputs=False), "tensorboard"),
    "TensorBoard, outputs too": (partial(tensorboard, outputs=True), "tensorboard"),
}


class Peer:
    """One twin and what watches it.

    Args:
        name: which of `PEERS`.
    """

    def __init__(self, name: str) -> None:
        torch.set_num_threads(2)
        torch.manual_seed(0)
        self._training = Training(resnet())
        self._end = ExitStack()
        folder = self._end.enter_context(tempfile.TemporaryDirectory())
        make, self._package = PEERS[name]
        self._log = make(self._training, folder, self._end)
        self.seconds()

    def version(self) -> str:
        return importlib.metadata.version(self._package)

    def seconds(self) -> float:
        """Of a block of steps."""
        train = self._training
        began = time.perf_counter()
        for _ in range(BLOCK):
            loss = F.cross_entropy(train.model(train.x), train.y)
            train.optimizer.zero_grad()
            loss.backward()
            train.optimizer.step()
            self._log(loss.detach())
        return time.perf_counter() - began

    def end(self) -> None:
        self._end.close()


def main() -> None:
    quick = options(__doc__).quick
    running: dict[str, Contender] = {}
    versions: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for name in PEERS:
        try:
            contender = Contender(Peer, name)
            versions[name], running[name] = contender.ask("version"), contender
        except GaveUp as reason:
            skipped[name] = str(reason)
            print(f"{name} skipped: {reason}", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for turn in range(2 if quick else ROUNDS):
        for name in in_order(running, turn):
            seconds[name].append(running[name].ask("seconds"))
    found: dict[str, Ratio] = {}
    for name, contender in running.items():
        contender.ask("end")
        contender.close()
        if name != "bare":
            found[f"ResNet-18, {name} / bare"] = ratio(seconds[name], seconds["bare"])
    for label, value in found.items():
        print(f"{label}: {value}", flush=True)
    if not quick:
        write("watch_peers", __doc__, found, facts={"skipped": skipped, "versions": versions})


if __name__ == "__main__":
    main()
