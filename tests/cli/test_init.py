"""`lampwork init`: the plan of a model of the user's, in words or as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer

import lampwork as lw
from lampwork._core.errors import LampworkError
from lampwork.cli.init import init
from tests.cli.scripts import lampwork

NETS = """
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, width, 3), nn.Linear(width, 3)

    def forward(self, x):
        return self.head(F.silu(self.conv(x)).mean((2, 3)))


def language():
    return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))


built = Net()
number = 3


def broken():
    raise RuntimeError("no weights here")


def none():
    pass
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of models."""
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_the_plan_and_the_check_are_printed(here: Path, capsys: pytest.CaptureFixture[str]):
    """One line per tensor; with the shape of an example the forward pass tells, and proves."""
    init("nets.py:Net", example=["2,1,8,8"])
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "silu follows (from one forward pass)" in lines["conv.weight"]
    assert "PASS" in out
    init("nets.py:built")
    assert "guessed from module order" in capsys.readouterr().out


def test_the_json_can_be_read_back(here: Path, capsys: pytest.CaptureFixture[str]):
    """The plan in it is that of `Plan.to_json`, by the scheme that was asked for."""
    init("nets.py:language", example=["2,3:int64"], scheme="bert", as_json=True)
    content = json.loads(capsys.readouterr().out)
    assert content["check"]["ok"] is True
    scope: dict = {}
    exec(NETS, scope)
    plan = lw.init.Plan.from_json(json.dumps(content["plan"]), scope["language"]())
    assert [(row.name, row.scheme) for row in plan.rows] == [
        ("0.weight", "trunc_normal"),
        ("1.weight", "trunc_normal"),
        ("1.bias", "zeros"),
    ]


def test_a_check_that_fails_is_told_and_counts_if_it_is_to(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    """Zeros as weights: the finding is printed, strict alone turns it into exit code 3."""
    init("nets.py:Net", example=["1,1,8,8"], scheme="zeros")
    assert "FAIL init-" in capsys.readouterr().out
    with pytest.raises(typer.Exit) as ended:
        init("nets.py:Net", example=["1,1,8,8"], scheme="zeros", strict=True)
    assert ended.value.exit_code == 3


def test_what_cannot_be_meant_ends_with_two(here: Path):
    """From the command, with the cause in words and nothing else."""
    ended = lampwork(here, "init", "nets:Met")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "lampwork: 'nets' has no 'Met': did you mean 'Net'?\n"


CAUSES = [
    ("Net", {}, "'Net' does not say what builds the model: pass MODULE:FACTORY"),
    ("nests:Net", {}, "there is no module 'nests' here: run the command where"),
    ("nests.py:Net", {}, "there is no module 'nests.py' here.*or pass a file"),
    ("nets.py:number", {}, "'nets.py:number' is int, neither a model nor a function"),
    ("nets.py:broken", {}, "'nets.py:broken' raises RuntimeError when .*: no weights here: write"),
    ("nets.py:none", {}, "'nets.py:none' returns NoneType: it has to return an nn.Module"),
    ("nets.py:Net", {"example": ["1,1,eight"]}, "--example '1,1,eight' is no shape: pass sizes"),
    ("nets.py:Net", {"example": ["1,0"]}, "--example '1,0' is no shape"),
    ("nets.py:Net", {"example": ["2,3:int65"]}, "is no shape: .* 1,3,32,32 or 2,16:int64"),
    ("nets.py:Net", {"example": ["2,3,8,8"]}, "Conv2d 'conv' expects 1 channels, was given 3"),
    ("nets.py:Net", {"scheme": "heuristic"}, "there is no scheme 'heuristic'"),
]


@pytest.mark.parametrize(("target", "options", "message"), CAUSES)
def test_each_cause_is_told_with_its_cure(here: Path, target: str, options: dict, message: str):
    """Before anything is planned where that is possible."""
    with pytest.raises(LampworkError, match=message):
        init(target, **options)
