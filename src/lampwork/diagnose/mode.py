"""Findings about the mode a model trains in."""

from __future__ import annotations

from collections.abc import Iterator

from lampwork.diagnose.finding import Finding
from lampwork.diagnose.layers import parameters
from lampwork.record.reader import Record


def eval_in_training(record: Record) -> Iterator[Finding]:
    """`mode-eval-in-training`: the model trains in evaluation mode.

    The model trains in evaluation mode, and that changes what it does. Dropout is off then, and
    batch normalisation neither uses nor updates statistics of the batch. The usual cause is a
    validation that does not go back with `model.train()`. Demanded are two recorded steps in a row
    up to the end in that mode, and a module that has two modes at all.

    Not accused: modules that all run before the first layer that is trained, where evaluation mode
    protects a frozen backbone.

    Known limits: a model without dropout and batch normalisation is the same in both modes; nothing
    is said of it.

    Source: torch.nn.Module.train; torch.nn.BatchNorm2d, torch.nn.Dropout.

    Cure: switch to training mode at the start of every epoch, not once before the first.

        model.train()  # before the training loop of each epoch
    """
    modules = record.meta.get("mode_modules") or []
    modes = [notes.get("training") for notes in record.notes]
    wrong = 0
    while wrong < len(modes) and modes[-1 - wrong] is False:
        wrong += 1
    if not modules or wrong < 2 or _before_training(record, modules):
        return
    yield Finding(
        "mode-eval-in-training",
        "warn",
        None,
        int(record.steps[len(modes) - wrong]),
        {"recorded_steps_in_eval": wrong, "recorded_steps": len(modes), "modules": modules[:5]},
        f"The model trains in evaluation mode, in which {modules[0]} works differently: switch "
        "back after each validation.\nmodel.train()  # before the training loop of every epoch",
    )


def _before_training(record: Record, modules: list[str]) -> bool:
    """Whether modules of these classes ran, and all of them before the first trained layer."""
    places = [t.id for t in record.of_kind("output") if t.facts.get("module") in modules]
    trained = [p.depth for p in parameters(record) if p.optimized and p.depth is not None]
    return bool(places and trained) and max(places) < min(trained)
