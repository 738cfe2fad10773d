"""`lampwork demo`: a small CNN on real handwritten digits, with all three pillars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lampwork._core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from lampwork.watching.session import Watch

EPOCHS = 70
EPOCHS_BROKEN = 10
BATCH_SIZE = 64

_PLANTED = (
    "planted: the last layer is replaced after the optimizer was made, as when a head is swapped "
    "for other classes"
)


def demo(
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Passes over the 1,437 images; {EPOCHS}, or {EPOCHS_BROKEN} of a broken one.",
            show_default=False,
        ),
    ] = None,
    directory: Annotated[str, typer.Option("--dir", help="The folder for runs.")] = "runs",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    broken: Annotated[
        bool, typer.Option("--broken", help="Plant a known mistake, which the verdict names.")
    ] = False,
) -> None:
    """Train a small CNN on handwritten digits with all of it; leaves a report."""
    import torch
    from torch import nn

    from lampwork import init
    from lampwork.watching.session import watch

    torch.manual_seed(seed)
    (x_train, y_train), held_out = _digits()
    model = _cnn()

    plan = init.plan(model, x_train[:BATCH_SIZE])
    plan.apply(seed=seed)
    typer.echo(f"{plan}\n")
    check = plan.verify(x_train[:BATCH_SIZE], y_train[:BATCH_SIZE])
    typer.echo(f"check of the first weights: {check.verdict}\n")

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if broken:
        model[-1] = nn.Linear(128 * 2 * 2, 10)
        typer.echo(f"{_PLANTED}\n")
    epochs = epochs or (EPOCHS_BROKEN if broken else EPOCHS)
    with watch(model, dir=directory, name="demo-broken" if broken else "demo") as run:
        accuracy = _train(model, optimizer, (x_train, y_train), held_out, epochs, run)
    _show_one_layer(model, x_train[:1], y_train[:1])
    typer.echo(f"validation accuracy: {accuracy:.3f}")
    _tell(run, whole=broken)


def _digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """scikit-learn's 1,797 digits: images in [0, 1] of shape (N, 1, 8, 8), labels (N,)."""
    import torch

    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "the demo trains on scikit-learn's digits, and scikit-learn is not installed: "
            "pip install 'lampwork[demo]'"
        ) from error
    bunch: Any = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(bunch.target)
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    held_out, train = shuffled[:360], shuffled[360:]
    return (images[train], labels[train]), (images[held_out], labels[held_out])


def _cnn() -> nn.Sequential:
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128 * 2 * 2, 10)),
    )


def _train(
    model: nn.Module,
    optimizer: Optimizer,
    train: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    epochs: int,
    run: Watch,
) -> float:
    """Train for some epochs; returns the accuracy on the images held out."""
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from torch.nn import functional as F
    from torch.utils.data import TensorDataset

    from lampwork.data.loader import DataLoader

    loader = DataLoader(TensorDataset(*train), batch_size=BATCH_SIZE, shuffle=True)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    accuracy = 0.0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("starting", total=epochs)
        for epoch in range(1, epochs + 1):
            model.train()
            loss = torch.zeros(())
            for images, labels in loader:
                loss = F.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.log(loss=loss)
            accuracy = _accuracy(model, *held_out)
            run.log(validation_accuracy=accuracy)
            text = f"epoch {epoch}/{epochs}  loss {loss:.4f}  validation accuracy {accuracy:.3f}"
            progress.update(bar, advance=1, description=text)
    typer.echo(f"loader, last epoch: {loader.stats()}")
    return accuracy


def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    import torch

    model.eval()
    with torch.no_grad():
        return (model(x).argmax(dim=1) == y).float().mean().item()


def _show_one_layer(model: nn.Module, x: Tensor, y: Tensor) -> None:
    from torch.nn import functional as F

    from lampwork.watching.capture import capture

    with capture(model, "0") as seen:
        F.cross_entropy(model(x), y).backward()
    layer = seen["0"]
    kernels, gradient = layer.parameters["weight"]
    typer.echo(
        f"layer '0': feature maps {tuple(layer.output.shape)}, kernels {tuple(kernels.shape)}, "
        f"largest kernel gradient {0.0 if gradient is None else gradient.abs().max():.2g}"
    )


def _tell(run: Watch, *, whole: bool) -> None:
    from lampwork.diagnose.verdict import diagnose
    from lampwork.record.reader import Record
    from lampwork.view.report import write_html
    from lampwork.view.terminal import print_report, verdict_line

    assert run.path is not None
    record = Record(run.path)
    findings = diagnose(record)
    page = write_html(record, findings, Path(run.path) / "report.html")
    if whole:
        from rich.console import Console

        print_report(record, findings, Console())
    else:
        typer.echo(verdict_line(record, findings))
    typer.echo(f"report: {page}")
