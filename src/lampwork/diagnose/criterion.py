"""The loss function as the record tells of it: with which classes, on which targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from lampwork.record.reader import Record


def criteria(record: Record) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The recorded steps of which the loss function is known, with what is known of it."""
    yield from _noted(record, "criterion")


def targets(record: Record) -> list[tuple[int, Mapping[str, Any]]]:
    """The recorded steps whose targets are classes, with what is known of them.

    Left out are losses that were not computed on the model's own output: their targets are made
    up by the method, as the labels of a contrastive or adversarial loss are.
    """
    own = {step for step, criterion in criteria(record) if criterion.get("direct") is not False}
    return [(step, told) for step, told in _noted(record, "targets") if step in own]


def batches(record: Record) -> list[tuple[int, Mapping[str, Any]]]:
    """The recorded steps at which the model was seen to be called, with what went in."""
    return [*_noted(record, "batch")]


def counts(record: Record) -> Counter[str]:
    """How often each class was met in the recorded steps; empty where there were too many."""
    found: Counter[str] = Counter()
    for _, told in targets(record):
        if "counts" not in told:
            return Counter()
        found.update(told["counts"])
    return found


def _noted(record: Record, key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for step, notes in zip(record.steps.tolist(), record.notes, strict=True):
        if isinstance(notes.get(key), dict):
            yield step, notes[key]
