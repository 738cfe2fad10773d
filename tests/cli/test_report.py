"""`lampwork report` and `lampwork runs`: reading what was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lampwork as lw
from tests.cli.scripts import lampwork, run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of a model that learns and of one whose gradients pile up."""
    folder = tmp_path_factory.mktemp("recorded")
    for name, clears in (("sound", True), ("piling", False)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        x = torch.randn(64, 4)
        y = (x[:, 0] > 0).long()
        with lw.watch(model, every=5, dir=folder / "runs", name=name) as watched:
            for _ in range(40):
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                if clears:
                    optimizer.zero_grad()
                watched.log(loss=loss)
    return folder


def test_the_verdict_in_the_terminal(runs: Path):
    """A bare name is looked up in `runs/`, a path is taken as it is."""
    by_name, by_path = (lampwork(runs, "report", run) for run in ("sound", "runs/sound"))
    assert by_name == by_path
    assert by_name.code == 0
    assert by_name.out.startswith("verdict: pass")


def test_a_finding_tells_what_to_do(runs: Path):
    """The code, the step, the evidence and a line of code that mends it are printed."""
    out = lampwork(runs, "report", "piling").out
    assert out.startswith("verdict: fail — grad-accumulating since step 5")
    assert "optimizer.zero_grad()" in out


@pytest.mark.parametrize(("run", "verdict", "code"), [("sound", "pass", 0), ("piling", "fail", 3)])
def test_json_and_strict(runs: Path, run: str, verdict: str, code: int):
    """The JSON has the promised keys; --strict alone turns a fail into exit code 3."""
    plain, strict = (
        lampwork(runs, "report", run, "--json"),
        lampwork(runs, "report", run, "--json", "--strict"),
    )
    assert (plain.code, strict.code) == (0, code)
    assert plain.out == strict.out
    report = json.loads(plain.out)
    assert (report["schema"], report["run"], report["verdict"]) == (1, run, verdict)
    keys = {"code", "severity", "where", "step", "evidence", "advice"}
    assert all(set(finding) == keys for finding in report["findings"])
    written = json.loads((runs / "runs" / run / "report.json").read_text())
    assert written == report


def test_the_page_is_written_where_it_is_asked_for(runs: Path, tmp_path: Path):
    """--html prints the path; with --json the path goes to stderr and stdout stays JSON."""
    page = tmp_path / "page.html"
    done = lampwork(runs, "report", "sound", "--html", str(page))
    assert (done.code, done.out) == (0, f"{page}\n")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    both = lampwork(runs, "report", "sound", "--json", "--html", str(page))
    assert json.loads(both.out)["run"] == "sound"
    assert both.err == f"{page}\n"


def test_a_page_that_cannot_be_written_is_told(runs: Path):
    """The reason and the cure, exit code 2, no traceback."""
    done = lampwork(runs, "report", "sound", "--html", "absent/page.html")
    assert done.code == 2
    assert "absent" in done.err
    assert "Traceback" not in done.err


def test_runs_lists_what_there_is(runs: Path, tmp_path: Path):
    """Each run with its verdict; an empty folder gets the command that fills it."""
    lines = lampwork(runs, "runs").out.splitlines()
    listed = {line.split()[0]: line.split()[-1] for line in lines[1:]}
    assert listed == {"sound": "pass", "piling": "fail"}
    assert "lampwork run SCRIPT" in lampwork(tmp_path, "runs").out


def test_a_broken_record_does_not_hide_the_others(runs: Path, tmp_path: Path):
    """A file that is no record is named as such in the list."""
    broken = tmp_path / "runs" / "broken"
    broken.mkdir(parents=True)
    (broken / "rank0.sqlite").write_bytes(b"no database")
    out = lampwork(tmp_path, "runs").out
    assert "broken" in out
    assert "unreadable" in out
    assert lampwork(tmp_path, "report", "broken").code == 2


def test_the_command_line_starts_without_torch(tmp_path: Path):
    """Help, the version and a report work in an interpreter that cannot import torch."""
    import sys

    code = "import sys; sys.modules['torch'] = None; from lampwork.cli import main; main()"
    for arguments in (["--help"], ["--version"], ["runs"]):
        done = run([sys.executable, "-c", code, *arguments], tmp_path)
        assert done.code == 0, done.err
