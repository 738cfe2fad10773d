"""A run from its start to its end: folders, steps, numbers, processes."""

import json
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import StackDataset

import lampwork
from lampwork import DataLoader
from lampwork._core.errors import InputError, RecordError
from lampwork.record.reader import Record
from lampwork.watching import activations, guard, reading, recorder, snapshots
from tests.watching.specimen import hooks_of
from tests.watching.training import (
    batches,
    far,
    hooks_anywhere,
    mlp,
    record_of,
    rows,
    seeded,
    sgd,
    train,
    watched,
)


@pytest.mark.parametrize(("every", "steps"), [(1, 3), (10, 25), (4, 9), (7, 7), (100, 5)])
def test_recorded_are_the_multiples_of_every(tmp_path, every, steps):
    """Of so many optimizer steps 0, every, 2·every, … are in the record, and their number is."""
    model = seeded(mlp)
    with watched(model, tmp_path, every=every) as run:
        train(model, sgd(model), batches(steps, 5, 4))
    record = record_of(run)
    assert record.steps.tolist() == list(range(0, steps, every))
    assert record.meta["steps"] == steps
    assert (np.diff(record.seconds) >= 0).all()


def test_the_public_name_is_the_function(tmp_path):
    """`lampwork.watch(model)` is the context manager of this file."""
    model = seeded(mlp)
    with lampwork.watch(model, dir=tmp_path, name="mine") as run:
        train(model, sgd(model), batches(1, 5, 4))
    assert run.path == tmp_path / "mine"


def test_the_record_tells_what_ran(tmp_path, monkeypatch):
    """Versions, model, arguments and the modules that differ in evaluation are told."""
    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "0.1"])
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.InstanceNorm2d(2),
        nn.BatchNorm2d(2, track_running_stats=False),
        nn.Dropout(0.0),
        nn.Dropout2d(0.1),
    )
    with watched(model, tmp_path, every=5) as run:
        assert record_of(run).meta["finished"] is False
        train(model, torch.optim.AdamW(model.parameters()), batches(2, 3, 1, 5, 5))
    meta = record_of(run).meta
    started = meta.pop("started")
    assert started.count("T") == 1
    assert meta == {
        "schema": 2,
        "lampwork": lampwork.__version__,
        "torch": torch.__version__,
        "model": "Sequential",
        "parameters": sum(p.numel() for p in model.parameters()),
        "mode_modules": ["BatchNorm2d", "Dropout2d"],
        "every": 5,
        "argv": ["train.py", "--lr", "0.1"],
        "optimizers": ["AdamW"],
        "finished": True,
        "steps": 2,
    }


def test_start_and_stop_do_what_the_block_does(tmp_path):
    """Without `with`, start and stop give the same record; a second stop is idle."""
    model = seeded(mlp)
    run = watched(model, tmp_path)
    run.stop()
    assert run.start() is run
    train(model, sgd(model), batches(2, 5, 4))
    run.stop()
    run.stop()
    assert record_of(run).steps.tolist() == [0, 1]
    assert hooks_anywhere(model) == []


def test_a_run_cannot_be_started_twice(tmp_path):
    """A second start is refused, during the run and after it, and tells where the first one is."""
    run = watched(seeded(mlp), tmp_path)
    with run, pytest.raises(InputError) as error:
        run.start()
    assert str(error.value) == (f"this run was started before, in {str(run.path)!r}: watch anew")
    with pytest.raises(InputError, match="watch anew"), run:
        pass
    assert record_of(run).meta["finished"] is True


def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path):
    """Before any training, with no hook left; another folder may be tried with the same object."""
    (tmp_path / "runs").write_text("a file")
    model = seeded(mlp)
    run = watched(model, tmp_path / "runs")
    with pytest.raises(RecordError, match="Choose a folder that you may write"):
        run.start()
    assert hooks_anywhere(model) == []
    assert run.path is None
    (tmp_path / "runs").unlink()
    with run:
        train(model, sgd(model), batches(1, 5, 4))
    assert record_of(run).steps.tolist() == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every=0 must be a whole number of steps, 1 or more"),
        ({"budget": 2}, "budget=2 is a share of the step time: 0.02 means 2 %"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, options, message):
    """They are told when the watch is made, and no folder is."""
    with pytest.raises(InputError) as error:
        watched(seeded(mlp), tmp_path / "runs", **options)
    assert str(error.value) == message
    assert not (tmp_path / "runs").exists()


def test_a_bad_name_is_refused_at_the_start(tmp_path):
    """A name with a slash is no name of a folder."""
    with pytest.raises(InputError, match="name='a/b' is not a plain folder name"):
        watched(seeded(mlp), tmp_path, name="a/b").start()


def test_a_model_without_parameters_is_refused():
    """There is nothing to train in it."""
    with pytest.raises(InputError) as error:
        lampwork.watch(nn.ReLU())
    assert str(error.value) == "ReLU has no parameters, so nothing can be trained"


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiled_model_is_refused_before_anything_is_written(tmp_path):
    """torch.compile(model) and model.compile() both are, with the cure."""
    in_place = seeded(mlp)
    in_place.compile(backend="eager")
    for model in (torch.compile(seeded(mlp), backend="eager"), in_place):
        with pytest.raises(InputError, match="open the block on the plain model first"):
            watched(model, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_numbers_carry_the_step_that_was_finished_last(tmp_path):
    """What is logged after a step has that step's number, also between recorded ones."""
    model = seeded(mlp)
    optimizer, losses = sgd(model), []
    with watched(model, tmp_path, every=2) as run:
        run.log(start=1)
        for x in batches(5, 5, 4):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            run.log(loss=loss, accuracy=0.5)
            losses.append(loss.item())
        run.log_at(40, best=np.float32(0.25))
    record = record_of(run)
    steps, values = record.scalar("loss")
    assert steps.tolist() == [0, 1, 2, 3, 4]
    assert values.tolist() == losses
    assert [array.tolist() for array in record.scalar("start")] == [[0], [1.0]]
    assert [array.tolist() for array in record.scalar("best")] == [[40], [0.25]]
    assert record.scalar_names == ["start", "loss", "accuracy", "best"]


def test_numbers_on_an_accelerator_are_read_at_the_end_at_the_latest(tmp_path):
    """What was logged after the last recorded step is not lost."""
    model = seeded(mlp)
    with watched(model, tmp_path, every=100) as run:
        train(model, sgd(model), batches(2, 5, 4))
        run.log(loss=far(0.5))
    assert [array.tolist() for array in record_of(run).scalar("loss")] == [[1], [0.5]]


def test_logging_keeps_no_graph(tmp_path):
    """A logged loss is a number: the graph behind it is free once the user lets go of it."""
    model = seeded(mlp)
    with watched(model, tmp_path) as run:
        output = model(batches(1, 5, 4)[0])
        gone = weakref.ref(output)
        run.log(loss=output.sum())
        sgd(model).step()
        del output
        assert gone() is None


@pytest.mark.parametrize("when", ["before", "after"])
def test_logging_outside_of_the_block_is_an_error(tmp_path, when):
    """It tells where to log; nothing is lost silently."""
    run = watched(seeded(mlp), tmp_path)
    if when == "after":
        with run:
            pass
    with pytest.raises(InputError) as error:
        run.log(loss=1.0)
    assert str(error.value) == "the run is not in progress: log inside the `with` block"


def test_a_number_that_is_none_is_told_to_the_user(tmp_path):
    """A mistake in what is logged is an exception at that line, and hooks are gone."""
    model = seeded(mlp)
    message = r"loss is a Tensor of shape \(5,\), not one number"
    with pytest.raises(InputError, match=message), watched(model, tmp_path) as run:
        run.log(loss=torch.zeros(5))
    assert hooks_anywhere(model) == []


def test_loaders_of_the_run_are_kept(tmp_path):
    """A loader that was used during a run is in its record, one that was used before is not."""
    before, during = (DataLoader(StackDataset(torch.arange(6)), batch_size=2) for _ in range(2))
    assert len(list(before)) == 3
    with watched(seeded(mlp), tmp_path) as run:
        assert len(list(during)) == 3
    (loader,) = record_of(run).loaders
    assert (loader.dataset, loader.stats["batches"]) == ("StackDataset", 3)


class Clock:
    """Time that passes only where the test lets it."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for module in (guard, recorder):
            monkeypatch.setattr(module, "monotonic_s", lambda: self.now)
        slow = (activations, "measure"), (activations, "measure_with_channels")
        for owner, name in (*slow, (reading.Reading, "add"), (reading.Reading, "add_dense")):
            self._slow_down(monkeypatch, owner, name)

    def _slow_down(self, monkeypatch, owner, name):
        works = getattr(owner, name)

        def slow(*args, **kwargs):
            self.now += 0.01
            return works(*args, **kwargs)

        monkeypatch.setattr(owner, name, slow)


@pytest.mark.parametrize("every", [1, 3])
def test_a_budget_is_kept_by_the_clock(tmp_path, monkeypatch, every):
    """With steps of a second and a hundredth per tensor, recording keeps to its two percent."""
    clock, model = Clock(monkeypatch), seeded(mlp)
    model.register_forward_pre_hook(lambda *_: setattr(clock, "now", clock.now + 1.0))
    with watched(model, tmp_path, every=every, budget=0.02) as run:
        train(model, sgd(model), batches(60, 2, 4))
    # 4 outputs, 4 gradients of them, 4 weights, gradients and updates each: 0.2 s of a step.
    # What the callback in which it is measured adds comes with the next step.
    found = record_of(run).steps
    assert found[0] == 0
    assert (found % every == 0).all()
    distances = np.diff(found)
    assert len(distances) >= 3
    assert (0.2 / (distances[1:] + 0.2) <= 0.02).all()
    assert (distances <= 0.2 / 0.02 + every).all()


def test_pictures_are_taken_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    """They come at steps 0, 1, 2, 4, 8 and after the last one, if time is no matter."""
    monkeypatch.setattr(snapshots, "SHARE", np.inf)
    model = seeded(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten()))
    data = batches(11, 4, 2, 6, 6)
    with watched(model, tmp_path) as run:
        train(model, sgd(model), data)
    pictures = record_of(run).pictures
    kinds = ["kernels", "kernels_change", "feature_maps", "input", "grad_cam", "saliency"]
    assert [(p.step, p.kind) for p in pictures] == [
        (step, kind) for step in (0, 1, 2, 4, 8, 11) for kind in kinds
    ]
    inputs = [p.pixels for p in pictures if p.kind == "input"]
    assert all((image == inputs[0]).all() for image in inputs)


def test_pictures_may_be_left_out(tmp_path):
    """With pictures=False there are none, and no hook waits for an example."""
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 1, 3)))
    with watched(model, tmp_path, pictures=False) as run:
        train(model, sgd(model), batches(2, 2, 1, 5, 5))
    assert record_of(run).pictures == []


def test_a_model_that_is_cast_before_the_end_does_no_harm(tmp_path, caplog):
    """Moving or casting the model inside the block, to save it for example, raises nothing."""
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 1, 3)))
    with watched(model, tmp_path) as run:
        train(model, sgd(model), batches(2, 2, 1, 5, 5))
        model.to(torch.bfloat16)
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 1, 3)))
    with watched(model, tmp_path) as run:
        train(model, sgd(model), batches(2, 2, 1, 5, 5))
        model.to("meta")
    assert record_of(run).meta["finished"] is True
    # Of a model without values no picture can be taken: told, and not raised.
    assert len(caplog.records) <= 1


def test_a_report_lies_beside_a_finished_record(tmp_path):
    """A run that ended in order has its verdict as JSON, without NaN, under the run's name."""
    model = seeded(mlp)
    with watched(model, tmp_path, name="net") as run:
        train(model, sgd(model), batches(3, 5, 4))
        assert not (run.path / "report.json").exists()
    report = json.loads(
        (run.path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )
    assert report["schema"] == 1
    assert report["verdict"] in ("pass", "warn", "fail")


def test_findings_are_known_during_the_run(tmp_path):
    """Parameters that no optimizer owns are found while training goes on, and before it nothing."""
    model = seeded(mlp)
    optimizer = sgd(model[0], lr=0.01)
    run = watched(model, tmp_path)
    assert run.findings == []
    with run:
        train(model, optimizer, batches(40, 5, 4))
        during = [(finding.code, finding.where) for finding in run.findings]
    after = [(finding.code, finding.where) for finding in run.findings]
    assert ("optim-missing-params", "2.weight") in during
    assert set(during) <= set(after)


@pytest.mark.timeout(60)
def test_a_disk_that_fails_is_told_in_the_log(tmp_path, caplog):
    """Where the record cannot be written on, training ends in order and the log says why."""
    model, twin = seeded(mlp), seeded(mlp)
    data = batches(3, 5, 4)
    with watched(model, tmp_path) as run:
        run._writer._put("loaders", (1, "Digits", None))
        assert not run._writer.flush()
        train(model, sgd(model), data)
        run.log(loss=1.0)
    train(twin, sgd(twin), data)
    assert all(map(torch.equal, model.parameters(), twin.parameters()))
    (told,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert "ends early: NOT NULL constraint failed: loaders.stats" in told.getMessage()
    assert not (run.path / "report.json").exists()


def test_no_thread_is_left(tmp_path):
    """After the block the writer's thread is gone."""
    before = set(threading.enumerate())
    with watched(seeded(mlp), tmp_path):
        assert len(threading.enumerate()) == len(before) + 1
    assert set(threading.enumerate()) == before


def test_ranks_record_side_by_side(tmp_path, monkeypatch):
    """Two ranks of one run have a file each in one folder; rank 0 alone writes the report."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    paths = []
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        model = seeded(mlp)
        with watched(model, tmp_path, name="net") as run:
            train(model, sgd(model), batches(2, 5, 4))
        paths.append(run.path)
        assert (run.path / "report.json").exists() == (rank == "0")
    assert paths[0] == paths[1]
    assert {p.name for p in run.path.glob("rank*.sqlite")} == {"rank0.sqlite", "rank1.sqlite"}


def test_two_models_of_one_rank_have_folders_of_their_own(tmp_path, monkeypatch):
    """Under torchrun a second run of the same process does not run into the first one's file."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with watched(seeded(mlp), tmp_path) as first, watched(seeded(mlp), tmp_path) as second:
        assert second.path.name == f"{first.path.name}-2"


FORKING = """
import os, sys, torch
from torch import nn
import lampwork as lw

torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().mean()
        loss.backward()
        optimizer.step()
        run.log(loss=loss)

how, folder = sys.argv[1:]
with lw.watch(model, every=1, dir=folder, name="net") as run:
    train(3)
    child = os.fork()
    if child == 0:
        train(50)
        if how == "leaves":
            sys.exit(0)     # through the end of the block and atexit
        if how == "findings":
            run.findings
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert not os.path.exists(run.path / "report.json")
    train(3)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("how", ["leaves", "findings"])
def test_a_forked_child_leaves_the_record_alone(tmp_path, how):
    """A child that trains on its copy, and ends in whatever way, is not seen in the record."""
    child = subprocess.run(
        # Python warns of a fork beside threads; a user sees that too.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, how, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (child.returncode, child.stderr) == (0, "")
    record = Record(tmp_path / "net")
    assert record.steps.tolist() == list(range(6))
    assert record.scalar("loss")[0].tolist() == list(range(6))
    assert record.meta["finished"] is True
    assert (tmp_path / "net" / "report.json").exists()


UNFINISHED = """
import sys, torch
from torch import nn
import lampwork as lw

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
run = lw.watch(model, every=1, dir=sys.argv[1], name="net").start()
model(torch.ones(3, 4)).sum().backward()
optimizer.step()
sys.exit(int(sys.argv[2]))
"""


def test_a_run_that_was_not_stopped_ends_with_the_interpreter(tmp_path):
    """Without stop the record is finished when Python ends, and the exit code is the script's."""
    child = subprocess.run(
        [sys.executable, "-c", UNFINISHED, str(tmp_path), "7"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (child.returncode, child.stderr) == (7, "")
    record = Record(tmp_path / "net")
    assert record.steps.tolist() == [0]
    assert record.meta["finished"] is True
    assert (tmp_path / "net" / "report.json").exists()


def test_a_watch_that_was_dropped_before_any_step_leaves_an_empty_record(tmp_path):
    """A block without a step is a record with nothing in it, and no error."""
    model = seeded(mlp)
    with watched(model, tmp_path) as run:
        model(batches(1, 5, 4)[0])
    record = record_of(run)
    assert (record.steps.tolist(), record.meta["steps"]) == ([], 0)
    assert hooks_of(model) == []


def test_a_model_without_gradients_anywhere_is_recorded(tmp_path):
    """Steps of an optimizer whose gradients are all None are steps like others."""
    model = seeded(mlp)
    optimizer = sgd(model)
    with watched(model, tmp_path) as run:
        optimizer.step()
        optimizer.step()
    record = record_of(run)
    assert record.steps.tolist() == [0, 1]
    assert np.isnan(rows(record, "0.weight", "grad")).all()
    assert [note["forwards"] for note in record.notes] == [0, 0]
