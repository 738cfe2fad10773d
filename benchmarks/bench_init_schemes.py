"""Question: does the planned scheme train as well as the best that one would choose by hand?

Ten networks on scikit-learn's handwritten digits: plain ones of 128 units and one of 16 channels
(SGD, momentum 0.9, batch 64), a small residual one with batch normalisation, a pre-LN transformer
of four layers and an LSTM that read the eight rows of an image (Adam). Of the 1,797 images the last
397 are for the score. Each scheme has its own learning rate: of three the one with which two seeds
of their own, trained on 1,100 images, did best on the next 300. Then five seeds are trained on all
1,400, and their accuracy on the 397 is the score; the same few hundred steps for every scheme;
chance is 0.10. `auto` is within the noise where its mean lies less than two standard errors of the
difference below that of the best by hand, which was chosen by its score.

    python benchmarks/bench_init_schemes.py [--seeds 5] [--only NAME …]

Caveat: small networks, few steps, five seeds, one of them for weights and batches alike. Where
several schemes lie within the noise, nothing is said on which is best.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import math
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import lampwork as lw

RESULT = Path(__file__).parent / "results" / "init_schemes.json"
TRAINED, FITTED, BATCH = 1400, 1100, 64
TUNING_SEEDS, RATES = (100, 101), (0.5, 1.0, 2.0)

BY_DEFAULT, AUTO = "torch's default", "auto"
XAVIER, HE, ORTHOGONAL, SMALL = "Xavier", "He", "orthogonal", "N(0, 0.01²)"
HE_WITH_BIAS = "He, bias 0.01"
RELU: Any = {"nonlinearity": "relu"}
BIAS: Any = ("constant", {"val": 0.01})


def orthogonal(gain: float) -> Any:
    return ("orthogonal", {"gain": gain})


RELU_SCHEMES: dict[str, Any] = {
    BY_DEFAULT: None,
    "zeros": "zeros",
    "constant 0.01": BIAS,
    SMALL: ("normal", {"std": 0.01}),
    XAVIER: "xavier_normal",
    HE: ("kaiming_normal", RELU),
    HE_WITH_BIAS: ("kaiming_normal", RELU),
    ORTHOGONAL: orthogonal(2**0.5),
}
TANH_SCHEMES: dict[str, Any] = {
    BY_DEFAULT: None,
    XAVIER: "xavier_normal",
    ORTHOGONAL: orthogonal(1.0),
}
OTHER_SCHEMES: dict[str, Any] = {
    BY_DEFAULT: None,
    XAVIER: "xavier_normal",
    HE: ("kaiming_normal", RELU),
    ORTHOGONAL: orthogonal(1.0),
}
CONVOLUTIONAL_SCHEMES: dict[str, Any] = {
    BY_DEFAULT: None,
    XAVIER: "xavier_normal",
    HE: ("kaiming_normal", RELU),
    ORTHOGONAL: orthogonal(2**0.5),
}


def mlp(depth: int, activation: type[nn.Module]) -> nn.Module:
    sizes = [64, *[128] * (depth - 1), 10]
    layers = [part for i in range(depth) for part in (nn.Linear(*sizes[i : i + 2]), activation())]
    return nn.Sequential(*layers[:-1])


def convolutions(depth: int = 20, channels: int = 16) -> nn.Module:
    sizes = [1, *[channels] * depth]
    layers = [
        part for size in pairwise(sizes) for part in (nn.Conv2d(*size, 3, padding=1), nn.ReLU())
    ]
    head = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 10))
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers, *head)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(2))
        self.norm, self.last = nn.BatchNorm2d(16), nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.last(self.two(F.relu(self.norm(self.one(x))))))


def resnet() -> nn.Module:
    stem = (nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1, bias=False))
    blocks = (Residual() for _ in range(4))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return nn.Sequential(*stem, nn.BatchNorm2d(16), nn.ReLU(), *blocks, *head)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Linear(8, 32)
        self.position = nn.Parameter(torch.zeros(8, 32))
        layer = nn.TransformerEncoderLayer(
            32, 4, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 4, nn.LayerNorm(32), enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.rows(x.view(-1, 8, 8)) + self.position).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 64, batch_first=True), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.view(-1, 8, 8))[0][:, -1])


@dataclass(frozen=True)
class Case:
    """A network, how it is trained, and the schemes that one might choose for it.

    Learning rates are `RATES` times `rate`.
    """

    build: Callable[[], nn.Module]
    schemes: dict[str, Any]
    steps: int
    rate: float
    adam: bool = False


def plain(depth: int, activation: type[nn.Module]) -> Callable[[], nn.Module]:
    return lambda: mlp(depth, activation)


CASES = {
    "ReLU, 10 layers": Case(plain(10, nn.ReLU), RELU_SCHEMES, 200, 0.01),
    "ReLU, 22 layers": Case(plain(22, nn.ReLU), RELU_SCHEMES, 300, 0.005),
    "ReLU, 30 layers": Case(plain(30, nn.ReLU), RELU_SCHEMES, 400, 0.005),
    "tanh, 30 layers": Case(plain(30, nn.Tanh), TANH_SCHEMES, 200, 0.01),
    "tanh, 100 layers": Case(plain(100, nn.Tanh), TANH_SCHEMES, 200, 0.003),
    "GELU, 30 layers": Case(plain(30, nn.GELU), OTHER_SCHEMES, 400, 0.004),
    "ReLU, 20 convolutions": Case(convolutions, CONVOLUTIONAL_SCHEMES, 200, 0.006),
    "ResNet with BN": Case(
        resnet, {**OTHER_SCHEMES, "recipe resnet": "resnet"}, 80, 0.005, adam=True
    ),
    "pre-LN transformer": Case(
        Transformer, {**OTHER_SCHEMES, "recipe gpt2": "gpt2"}, 200, 0.005, adam=True
    ),
    "LSTM": Case(Recurrent, OTHER_SCHEMES, 150, 0.005, adam=True),
}


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(labels)


def initialised(case: Case, name: str, seed: int, example: Tensor) -> nn.Module:
    torch.manual_seed(seed)
    model = case.build()
    scheme = AUTO if name == AUTO else case.schemes[name]
    if scheme is not None:
        rules = [lw.init.Rule("*", BIAS, role="bias")] if name == HE_WITH_BIAS else []
        lw.init.initialize(model, example, seed=seed, scheme=scheme, rules=rules)
    return model


@dataclass(frozen=True)
class Job:
    """One training: of a network with a scheme, at a rate, scored on what it has not seen."""

    label: str
    name: str
    seed: int
    rate: float
    is_trial: bool

    def accuracy(self) -> float:
        case, (x, y) = CASES[self.label], digits()
        model = initialised(case, self.name, self.seed, x[:8])
        parameters, rate = model.parameters(), self.rate
        optimizer = (
            torch.optim.Adam(parameters, lr=rate)
            if case.adam
            else torch.optim.SGD(parameters, lr=rate, momentum=0.9)
        )
        seen = FITTED if self.is_trial else TRAINED
        for _ in range(case.steps):
            batch = torch.randint(seen, (BATCH,))
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        held_out = slice(FITTED, TRAINED) if self.is_trial else slice(TRAINED, None)
        model.eval()
        with torch.no_grad():
            right = model(x[held_out]).argmax(1) == y[held_out]
        return round(right.float().mean().item(), 4)


def scored(
    map_: Callable[..., Any], label: str, name: str, seeds: int
) -> tuple[float, list[float]]:
    """The learning rate that was chosen, and the accuracies of the seeds."""
    case = CASES[label]
    rates = [factor * case.rate for factor in RATES]
    trials = [Job(label, name, seed, rate, True) for rate in rates for seed in TUNING_SEEDS]
    found = list(map_(Job.accuracy, trials))
    by_rate = {
        rate: statistics.fmean(v for job, v in zip(trials, found, strict=True) if job.rate == rate)
        for rate in rates
    }
    # Of rates that did equally well the smaller one.
    best = max(rates, key=lambda rate: (by_rate[rate], -rate))
    return best, list(map_(Job.accuracy, [Job(label, name, s, best, False) for s in range(seeds)]))


def verdict(found: dict[str, list[float]]) -> dict[str, Any]:
    """The best scheme by hand, how far `auto` lies below it, and two standard errors of that."""
    means = {name: statistics.fmean(values) for name, values in found.items()}
    best = max((name for name in found if name != AUTO), key=lambda name: means[name])
    spread = [statistics.stdev(found[name]) if len(found[name]) > 1 else 0 for name in (best, AUTO)]
    noise = 2.0 * math.sqrt(sum(value**2 for value in spread) / len(found[AUTO]))
    behind = means[best] - means[AUTO]
    return {
        "best": best,
        "behind": round(behind, 4),
        "noise": round(noise, 4),
        "within": behind <= noise,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", choices=CASES, help="these networks; the others' results stay"
    )
    options = parser.parse_args()
    began, labels = time.perf_counter(), options.only or list(CASES)
    found: dict[str, dict[str, list[float]]] = {label: {} for label in labels}
    rates: dict[str, dict[str, float]] = {label: {} for label in labels}
    todo = [(label, name) for label in labels for name in (*CASES[label].schemes, AUTO)]
    with (
        multiprocessing.get_context("spawn").Pool(2, torch.set_num_threads, (1,)) as pool,
        ThreadPool(2) as sides,  # so that no process waits for the last of a scheme
    ):
        one = functools.partial(scored, functools.partial(pool.map, chunksize=1))
        results = sides.imap(lambda pair: one(*pair, options.seeds), todo)
        for (label, name), (rate, values) in zip(todo, results, strict=True):
            found[label][name], rates[label][name] = values, rate
            shown = f"{statistics.fmean(values):.3f}  " + " ".join(f"{v:.2f}" for v in values)
            print(f"{label:20} {name:16} rate {rate:<7} {shown}", flush=True)
    verdicts = {label: verdict(by_scheme) for label, by_scheme in found.items()}
    for label, one in verdicts.items():
        print(f"{label:20} {one}")
    print(f"{time.perf_counter() - began:.0f} s")
    if options.seeds < 5:
        return  # a trial
    earlier = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    found = {**earlier.get("accuracy", {}), **found}
    verdicts = {**earlier.get("verdicts", {}), **verdicts}
    rates = {**earlier.get("rates", {}), **rates}
    question, _, caveat = (__doc__ or "").partition("Caveat: ")
    kept = {
        "question": question.splitlines()[0].removeprefix("Question: "),
        "command": "python benchmarks/bench_init_schemes.py",
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": 2,
        "caveat": " ".join(caveat.split()),
        "accuracy": {label: found[label] for label in CASES if label in found},
        "verdicts": {label: verdicts[label] for label in CASES if label in found},
        "rates": {label: rates[label] for label in CASES if label in rates},
    }
    RESULT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
