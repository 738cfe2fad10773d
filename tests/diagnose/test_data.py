"""Findings about waiting for data, on both sides of each limit, and about workers that died."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import lampwork
from lampwork.diagnose import data, diagnose
from lampwork.record.reader import Record

WAITS = {"wait_share": 0.6, "wait_s": 45.0, "batches": 500}
SHORT = {"wait_share": 0.6, "wait_s": 2.4, "epoch_s": 4.0, "batches": 20}


@pytest.mark.parametrize("waits", [WAITS, SHORT])
def test_half_of_the_time_is_starvation(synthetic, waits):
    """The dataset is named, with the share and the seconds."""
    (finding,) = data.starved(synthetic().loader("Photos", **waits).read())
    assert (finding.code, finding.severity, finding.where) == ("data-starved", "warn", "Photos")
    expected = {key: waits[key] for key in ("wait_share", "wait_s", "batches")}
    assert finding.evidence == expected
    assert "Photos" in finding.advice


@pytest.mark.parametrize(
    "stats",
    [
        WAITS | {"wait_share": 0.49},
        WAITS | {"wait_s": 9.0},
        WAITS | {"batches": 9},
        SHORT | {"wait_s": 1.9, "epoch_s": 3.0},
        SHORT | {"batches": 100},
        SHORT | {"epoch_s": 5.0},
        SHORT | {"workers": 2, "total": {**SHORT, "first_wait_s": 1.0}},
    ],
)
def test_less_waiting_is_ordinary(synthetic, stats):
    """A small model on small data waits much of little time, and workers take time to start."""
    assert not [*data.starved(synthetic().loader("Photos", **stats).read())]


@pytest.mark.parametrize(
    ("stats", "code"),
    [
        ({"busy_share": 0.9}, "data-starved"),
        ({"busy_share": 0.2}, "data-slow-handover"),
        ({"busy_share": 0.2, "slowest": [[7, 0.9]]}, "data-starved"),
        ({"busy_share": None}, "data-starved"),
        ({"busy_share": 0.6, "total": {**SHORT, "opening_s": 1.5}}, "data-slow-handover"),
        ({"busy_share": 0.2, "workers": 0}, "data-starved"),
    ],
)
def test_idle_workers_are_not_what_training_waits_for(synthetic, stats, code):
    """Waiting is either for the loading of batches or for their way here, never both."""
    record = synthetic().loader("Photos", **{**SHORT, "workers": 2, **stats}).read()
    assert [finding.code for finding in diagnose(record)] == [code]


class Doomed(Dataset):
    """A dataset whose twentieth sample may be the end of its process."""

    def __init__(self, deadly: bool) -> None:
        self.deadly = deadly

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.deadly and index == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.randn(4)


@pytest.mark.parametrize("deadly", [True, False])
def test_a_dead_worker_is_told_in_the_record(tmp_path, deadly):
    """The loader's words, with the sample, stand in the verdict of a run that ended with them."""
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loader = lampwork.DataLoader(Doomed(deadly), 4, num_workers=1)

    def train() -> None:
        for x in loader:
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    with lampwork.watch(model, every=1, dir=tmp_path, name="run", pictures=False):
        if deadly:
            with pytest.raises(RuntimeError, match=r"DataLoader worker .* is killed by signal"):
                train()
        else:
            train()
    found = [f for f in diagnose(Record(tmp_path / "run")) if f.code == "data-worker-died"]
    assert len(found) == deadly
    if found:
        assert (found[0].severity, found[0].where) == ("fail", "Doomed")
        assert "sample 20" in found[0].evidence["error"]
        assert found[0].step == Record(tmp_path / "run").meta["steps"] > 0


@pytest.mark.parametrize(
    ("text", "cure"), [("Worker 1 was on sample 3.", "num_workers=0"),
                       ("The kernel ran out of memory and killed it", "num_workers=1")],
)  # fmt: skip
def test_death_before_the_first_step_is_told_too(synthetic, text, cure):
    """Without any step there is a finding all the same, and its cure fits the cause."""
    run = synthetic(steps=0).loader("Photos", died=text, batches=0, workers=4)
    (finding,) = diagnose(run.read())
    assert (finding.code, finding.step, finding.evidence["error"]) == ("data-worker-died", 0, text)
    assert cure in finding.advice
