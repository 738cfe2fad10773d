"""Question: what does watching cost on a CUDA device? Steps bare, and watched each or every tenth.

Watched are all outputs, their gradients, weights, weight gradients and updates, with histograms, of
a ResNet-50 (batch 64 of 224×224, channels last) and a GPT-2-small (8 × 1024 tokens, fused AdamW),
both under bfloat16 autocast. Blocks of ten steps alternate on the same weights; waiting for the
device is an error during the watched ones. With `--compiled` it asks the same of a GPT-2 of four
layers under torch.compile, on twins.

    python benchmarks/bench_watch_gpu.py [--quick] [--compiled]

Caveat: the batch is always the same and lies on the device.
"""

from __future__ import annotations

import logging
import tempfile
import time
from typing import Any

import torch
from gpu_models import Step
from ratios import Ratio, write
from turns import options

import lampwork as lw
from lampwork._native import stats, stats_torch
from lampwork._native.collected import rows_of
from lampwork.record.reader import Record

BLOCK, PAIRS = 10, 5
GOALS = {1: "≤ 1.10", 10: "≤ 1.01"}


def block(step: Step, strict: bool) -> tuple[float, float]:
    """Milliseconds of a step in a block, on the device's clock and on the host's until queued."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error" if strict else "default")
    began = time.perf_counter()
    begin.record()
    step.run(BLOCK)
    end.record()
    queued = time.perf_counter() - began
    torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / BLOCK, 1e3 * queued / BLOCK


def measure(step: Step, every: int, pairs: int, facts: dict[str, Any], label: str) -> Ratio:
    """The ratio of blocks watched and bare."""
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(pairs):
            for watched in ((False, True), (True, False))[turn % 2]:
                if not watched:
                    step.run(1)
                    found[watched].append(block(step, False))
                    continue
                with lw.watch(step.model, dir=folder, pictures=False, every=every) as run:
                    step.run(every)  # the first sight of each tensor is part of it
                    found[watched].append(block(step, True))
                recorded = len(Record(run.path).steps)
                if recorded < 1 + (BLOCK if every == 1 else 1):
                    raise SystemExit(f"{label}: only {recorded} steps were recorded")
    for watched, name in ((False, "bare"), (True, label)):
        device, host = min(found[watched])
        facts[f"{name}: ms a step, device / host"] = f"{device:.2f} / {host:.2f}"
    return Ratio.of([w[0] / b[0] for w, b in zip(found[True], found[False], strict=True)])


def kernel(facts: dict[str, Any]) -> None:
    """What a call of the statistic costs, on large tensors and small ones."""
    for dtype in (torch.float32, torch.bfloat16):
        for count in (1 << 26, 1 << 20, 1 << 12):
            x = torch.randn(count, device="cuda").to(dtype)
            ours = time_of(lambda x=x: stats.read(x))
            aten = time_of(lambda x=x: stats_torch.summary_row(x))
            size = x.numel() * x.element_size()
            label = f"statistic of {count} {str(dtype)[6:]}: "
            facts[label + "µs a call, device / host"] = f"{ours[0]:.1f} / {ours[1]:.1f}"
            facts[label + "ATen instead"] = f"{aten[0]:.1f} / {aten[1]:.1f}"
            facts[label + "GB/s"] = round(size / ours[0] / 1e3)
    x = torch.randn(64, 256, 56, 56, device="cuda").to(memory_format=torch.channels_last)
    both = time_of(lambda: stats.read_with_channels(x, 1))
    label = "with channels, 64×256×56×56 float32: µs a call, device / host"
    facts[label] = f"{both[0]:.1f} / {both[1]:.1f}"
    for label, value in facts.items():
        print(f"{label}: {value}", flush=True)


def time_of(call: Any, count: int = 50) -> tuple[float, float]:
    """Microseconds of one call, on the device's clock and the host's."""
    rows_of([row if not isinstance(row, tuple) else row[0] for row in [call()]])
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda._sleep(30_000_000)  # so that the host is ahead
    began = time.perf_counter()
    begin.record()
    kept = [call() for _ in range(count)]
    end.record()
    host = time.perf_counter() - began
    torch.cuda.synchronize()
    del kept
    return 1e3 * begin.elapsed_time(end) / count, 1e6 * host / count


def eager(found: dict[str, Ratio], facts: dict[str, Any], pairs: int) -> None:
    """Both models, bare and watched on the same weights."""
    for name in ("ResNet-50", "GPT-2"):
        step = Step(name, "cuda")
        step.run(5)
        for every in (1, 10):
            label = label_of(name, every)
            own: dict[str, Any] = {}
            torch.cuda.reset_peak_memory_stats()
            ratio = found[f"{label} / bare"] = measure(step, every, pairs, own, label)
            facts |= {f"{name}, {k}" if k.startswith("bare") else k: v for k, v in own.items()}
            peak = torch.cuda.max_memory_allocated() / 1e9
            print(f"{label} / bare: {ratio}, {own}, {peak:.1f} GB", flush=True)
        del step
        torch.cuda.empty_cache()


def label_of(name: str, every: int) -> str:
    return f"{name}, watched every {'step' if every == 1 else f'{every} steps'}"


def compiled(found: dict[str, Ratio], facts: dict[str, Any], pairs: int) -> None:
    """On twins, since what is compiled into a model stays there; each pair from a fresh compiler,
    which would else hold the graphs of one watched model against those of the next.
    """
    name = "compiled GPT-2 of 4 layers"
    for every in (1, 10):
        label = label_of(name, every)
        torch.compiler.reset()
        bare, watched = (Step("GPT-2", "cuda", layers=4) for _ in range(2))
        # Called otherwise than the watched one, so that it has a graph of its own.
        bare.called = torch.compile(lambda x, model=bare.model: model(x), fullgraph=True)
        facts[f"{name}, bare: s until compiled"] = first_steps(bare)
        blocks: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        with tempfile.TemporaryDirectory() as folder:
            with lw.watch(watched.model, dir=folder, pictures=False, every=every) as run:
                watched.called = torch.compile(watched.model, fullgraph=True)
                facts[f"{label}: s until compiled"] = first_steps(watched)
                for turn in range(pairs):
                    for strict in ((False, True), (True, False))[turn % 2]:
                        blocks[strict].append(block(watched if strict else bare, strict))
            record = Record(run.path)
            steps, kinds = len(record.steps), [tensor.kind for tensor in record.tensors]
        for strict, what in ((False, f"{name}, bare"), (True, label)):
            device, host = min(blocks[strict])
            facts[f"{what}: ms a step, device / host"] = f"{device:.2f} / {host:.2f}"
        ratios = [w[0] / b[0] for w, b in zip(blocks[True], blocks[False], strict=True)]
        ratio = found[f"{label} / bare"] = Ratio.of(ratios)
        told = f"{steps} steps, {kinds.count('output')} outputs and their gradients"
        print(f"{label} / bare: {ratio}, {told}", flush=True)
        if "output" not in kinds:
            raise SystemExit(f"{label}: no output was recorded")
        del bare, watched
        torch.cuda.empty_cache()
    for label, value in facts.items():
        print(f"{label}: {value}", flush=True)


def first_steps(step: Step) -> float:
    """Seconds of the steps in which all graphs are compiled, where waiting is allowed.

    Inductor itself waits for the device as it folds constants. The steps are enough for both graphs
    of a model that is watched at every tenth.
    """
    began = time.perf_counter()
    step.run(2 * BLOCK + 1)
    torch.cuda.synchronize()
    return round(time.perf_counter() - began, 1)


def main() -> None:
    given = options(__doc__, "--compiled")
    if not torch.cuda.is_available():
        print("nothing is measured: this needs a CUDA device")
        return
    logging.basicConfig(level=logging.WARNING)
    torch.backends.cudnn.benchmark = True
    found: dict[str, Ratio] = {}
    facts: dict[str, Any] = {"device": torch.cuda.get_device_name()}
    pairs = 2 if given.quick else PAIRS
    if given.compiled:
        compiled(found, facts, pairs)
    else:
        kernel(facts)
        eager(found, facts, pairs)
    if not given.quick:
        goals = {label: GOALS[10 if "10 steps" in label else 1] for label in found}
        name = "watch_gpu_compiled" if given.compiled else "watch_gpu"
        write(name, __doc__, found, goals=goals, facts=facts)


if __name__ == "__main__":
    main()
