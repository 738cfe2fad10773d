"""Question: which scheme trains a plain ReLU network of depth 10, 22 and 30 on handwritten digits?

Width 128, 200 steps of SGD (learning rate 0.01, momentum 0.9, batch 128), accuracy on the last
397 of scikit-learn's 1,797 digits; chance is 0.10.

    python benchmarks/bench_init_depth.py

Caveat: two seeds, one learning rate, few steps. It shows which schemes train at all, it does not
rank those that do: at depth 30 the same scheme can train with one seed and not with the next.
"""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import lampwork as lw

WIDTH, DEPTHS, SEEDS, STEPS, TRAINED = 128, (10, 22, 30), (0, 1), 200, 1400
RESULT = Path(__file__).parent / "results" / "init_depth.json"

# None leaves torch's own values.
SCHEMES = {
    "torch's default": None,
    "zeros": "zeros",
    "constant 0.01": ("constant", {"val": 0.01}),
    "N(0, 0.01²)": ("normal", {"std": 0.01}),
    "Xavier": "xavier_normal",
    "He": "kaiming_normal",
    "auto": "auto",
}


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(labels)


def mlp(depth: int) -> nn.Sequential:
    sizes = [64, *[WIDTH] * (depth - 1), 10]
    layers = [part for i in range(depth) for part in (nn.Linear(*sizes[i : i + 2]), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def accuracy(scheme: object, depth: int, seed: int, data: tuple[Tensor, Tensor]) -> float:
    torch.manual_seed(seed)
    model, (x, y) = mlp(depth), data
    if scheme is not None:
        lw.init.initialize(model, seed=seed, scheme=scheme)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(STEPS):
        batch = torch.randint(TRAINED, (128,))
        optimizer.zero_grad()
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        return (model(x[TRAINED:]).argmax(1) == y[TRAINED:]).float().mean().item()


def measure(show: Callable[[str], None]) -> dict[str, dict[str, list[float]]]:
    data, found = digits(), {}
    show("| scheme | " + " | ".join(f"depth {depth}" for depth in DEPTHS) + " |")
    show("|---" * (1 + len(DEPTHS)) + "|")
    for name, scheme in SCHEMES.items():
        by_depth = {
            depth: [round(accuracy(scheme, depth, seed, data), 3) for seed in SEEDS]
            for depth in DEPTHS
        }
        cells = (", ".join(f"{value:.2f}" for value in values) for values in by_depth.values())
        show(f"| {name} | {' | '.join(cells)} |")
        found[name] = {str(depth): values for depth, values in by_depth.items()}
    return found


def main() -> None:
    torch.set_num_threads(1)  # the matrices are too small to share
    found = measure(print)
    question, _, caveat = (__doc__ or "").partition("Caveat: ")
    kept = {
        "question": question.splitlines()[0].removeprefix("Question: "),
        "command": "python benchmarks/bench_init_depth.py",
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "caveat": " ".join(caveat.split()),
        "accuracy": found,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
