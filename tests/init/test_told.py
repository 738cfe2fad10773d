"""What a run over a planned model knows of its first values."""

from __future__ import annotations

import gc

import torch
from torch import nn

import lampwork as lw
from lampwork._core import origins
from lampwork.record.reader import Record

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))


def _run(model: nn.Module, folder) -> Record:
    with lw.watch(model, dir=folder, pictures=False) as run:
        model(X).square().mean().backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    return Record(run.path)


def test_plan_and_check_are_in_the_record(tmp_path):
    """A run over a planned model, wrapped meanwhile, has the plan's rows and the check's."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    plan = lw.init.plan(model, X)
    plan.apply(seed=7)
    check = plan.verify(X)
    meta = _run(nn.Sequential(model, nn.Identity()), tmp_path).meta
    assert meta["plan"]["seed"] == 7
    told = {row["name"]: row for row in meta["plan"]["rows"]}
    assert list(told) == [row.name for row in plan.rows]
    first = plan.rows[0]
    assert told["0.weight"]["std"] == first.std
    assert told["0.weight"]["shape"] == [8, 4]
    assert told["0.weight"]["reason"] == first.reason
    assert told["0.weight"]["scheme"].startswith(str(first.scheme))
    assert meta["check"]["verdict"] == check.verdict
    assert [row["status"] for row in meta["check"]["rows"]] == [row.status for row in check.rows]


def test_values_written_anew_have_no_check(tmp_path):
    """A check of earlier values is not told of later ones; a model without a plan tells nothing."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    plan = lw.init.plan(model, X)
    plan.verify(X)
    plan.apply(seed=1)
    meta = _run(model, tmp_path).meta
    assert "check" not in meta
    assert "plan" not in _run(nn.Linear(4, 2), tmp_path).meta


def test_what_was_told_keeps_no_model_alive():
    """A planned model dies with its last name."""
    model = nn.Linear(4, 2)
    plan = lw.init.plan(model)
    plan.apply()
    before = len(origins._told)
    del model, plan
    gc.collect()
    assert len(origins._told) < before
