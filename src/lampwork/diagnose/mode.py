"""Findings about the mode a model trains in."""

from __future__ import annotations

from collections.abc import Iterator

from lampwork.diagnose.criterion import criteria
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


def train_in_validation(record: Record) -> Iterator[Finding]:
    """`mode-train-in-validation`: the model is validated in training mode.

    Dropout then spoils what is measured, and batch normalisation uses statistics of the batch and
    takes the validation data into those that it keeps. Seen are forward passes without gradients
    of the whole model in training mode, between training steps and after them. Accused are two
    and more in a row, or single ones that come at a distance of five steps and more.

    Not accused: a single such pass at every step or so, which makes examples for another model, a
    target to learn from or a number to print; models whose output does not go into a loss of their
    own (generators); dropout that alone is switched on (Gal & Ghahramani 2016); statistics that are
    measured anew (torch.optim.swa_utils.update_bn); checkpointed passes.

    Known limits: a validation whose passes autograd follows is not told from training, nor one of
    a single batch after each step. Under torch.compile passes are not seen. Whoever draws samples
    by dropout with all of the model in training mode is accused.

    Source: torch.nn.Module.eval; torch.nn.BatchNorm1d, `track_running_stats`.

    Cure: switch before each validation, and back after it.

        model.eval()  # before the validation loop; model.train() after it
    """
    told = record.meta.get("validation") or {}
    modules = record.meta.get("mode_modules") or []
    phases = [(int(step), int(passes)) for step, passes in told.get("phases") or []]
    direct = {criterion.get("direct") for _, criterion in criteria(record)}
    own = True in direct or False not in direct
    if not phases or not modules or not own:
        return
    long = [(step, passes) for step, passes in phases if passes >= 2]
    steps = int(record.meta.get("steps") or phases[-1][0])
    seldom = 5 * (len(phases) + int(told.get("more", 0))) <= steps
    if not long and not seldom:
        return
    yield Finding(
        "mode-train-in-validation",
        "warn",
        None,
        (long or phases)[0][0],
        {
            "validations": len(phases) + int(told.get("more", 0)),
            "passes": sum(passes for _, passes in phases),
            "modules": modules[:5],
        },
        f"The model is in training mode while it is validated, in which {modules[0]} works "
        "differently: switch before and after.\n"
        "model.eval()  # before the validation loop; model.train() after it",
    )


def _before_training(record: Record, modules: list[str]) -> bool:
    """Whether modules of these classes ran, and all of them before the first trained layer."""
    places = [t.id for t in record.of_kind("output") if t.facts.get("module") in modules]
    trained = [p.depth for p in parameters(record) if p.optimized and p.depth is not None]
    return bool(places and trained) and max(places) < min(trained)
