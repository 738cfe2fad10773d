"""What a run tells of its loaders while it goes on."""

from __future__ import annotations

import torch
from torch.utils.data import StackDataset

from lampwork import DataLoader
from lampwork.record.reader import Record
from lampwork.watching import loaders
from tests.watching.training import mlp, record_of, seeded, sgd, watched


def test_loaders_are_told_while_training_goes_on(tmp_path, monkeypatch):
    """In the middle of a run its record has the figures so far, at the end each loader once."""
    monkeypatch.setattr(loaders, "TELL_EVERY_S", 0.0)
    model = seeded(mlp)
    optimizer = sgd(model)
    loader = DataLoader(StackDataset(torch.randn(12, 4)), batch_size=3)
    with watched(model, tmp_path) as run:
        for epoch in range(2):
            for i, (x,) in enumerate(loader):
                optimizer.zero_grad()
                model(x).square().mean().backward()
                optimizer.step()
                if epoch == 0 and i == 2:
                    assert run._writer.flush()
                    (midway,) = Record(run.path).loaders
    assert (midway.dataset, midway.stats["batches"]) == ("StackDataset", 3)
    record = record_of(run)
    assert [one.stats["batches"] for one in record.loaders] == [4]
    assert [note["loaded"]["samples"] for note in record.notes] == [3 * i for i in range(1, 9)]
    waits = [note["loaded"]["wait_s"] for note in record.notes]
    assert waits == sorted(waits)


def test_waiting_before_the_run_is_not_its_own(tmp_path):
    """A loader that was used before the run begins at zero."""
    loader = DataLoader(StackDataset(torch.randn(6, 4)), batch_size=3)
    assert len(list(loader)) == 2
    model = seeded(mlp)
    optimizer = sgd(model)
    with watched(model, tmp_path) as run:
        for (x,) in loader:
            model(x).sum().backward()
            optimizer.step()
    assert [note["loaded"]["samples"] for note in record_of(run).notes] == [3, 6]
