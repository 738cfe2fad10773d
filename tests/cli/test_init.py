"""`lampwork init`: the plan of a model of the user's, in words or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lampwork as lw
from lampwork._core.errors import LampworkError
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


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module of models."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "nets.py").write_text(NETS, encoding="utf-8")
    return folder


def test_the_plan_is_printed(here: Path):
    """One line per tensor; with the shape of an example the forward pass tells."""
    ended = lampwork(here, "init", "nets:Net", "--example", "2,1,8,8")
    assert (ended.code, ended.err) == (0, "")
    lines = {line.split()[0]: line for line in ended.out.splitlines() if line}
    assert "silu follows (from one forward pass)" in lines["conv.weight"]
    guessed = lampwork(here, "init", "nets.py:built")
    assert guessed.code == 0
    assert "guessed from module order" in guessed.out


def test_the_json_can_be_read_back(here: Path):
    """The plan in it is that of `Plan.to_json`, by the scheme that was asked for."""
    shapes = ("--example", "2,3:int64", "--scheme", "bert", "--json")
    ended = lampwork(here, "init", "nets:language", *shapes)
    content = json.loads(ended.out)
    scope: dict = {}
    exec(NETS, scope)
    plan = lw.init.Plan.from_json(json.dumps(content["plan"]), scope["language"]())
    assert [(row.name, row.scheme) for row in plan.rows] == [
        ("0.weight", "trunc_normal"),
        ("1.weight", "trunc_normal"),
        ("1.bias", "zeros"),
    ]


def test_what_cannot_be_meant_is_told_in_words(here: Path, monkeypatch: pytest.MonkeyPatch):
    """Exit code 2 from the command; every cause with its cure."""
    ended = lampwork(here, "init", "nets:Met")
    assert ended.code == 2
    assert ended.err == "lampwork: 'nets' has no 'Met': did you mean 'Net'?\n"
    assert lampwork(here, "init").code == 2

    from lampwork.cli.init import init

    monkeypatch.chdir(here)
    causes = [
        ("Net", {}, "'Net' does not say what builds the model: pass MODULE:FACTORY"),
        ("nests:Net", {}, "there is no module 'nests' here: run the command where"),
        ("nests.py:Net", {}, "there is no module 'nests.py' here.*or pass a file"),
        ("nets:number", {}, "'nets:number' is int, neither a model nor a function"),
        ("nets:broken", {}, "'nets:broken' raises RuntimeError when .*: no weights here: write"),
        ("nets:none", {}, "'nets:none' returns NoneType: it has to return an nn.Module"),
        ("nets:Net", {"example": ["1,1,eight"]}, "--example '1,1,eight' is no shape: pass sizes"),
        ("nets:Net", {"example": ["1,0"]}, "--example '1,0' is no shape"),
        ("nets:Net", {"example": ["2,3:int65"]}, "is no shape: .* 1,3,32,32 or 2,16:int64"),
        ("nets:Net", {"example": ["2,3,8,8"]}, "Conv2d 'conv' expects 1 channels, was given 3"),
        ("nets:Net", {"scheme": "heuristic"}, "there is no scheme 'heuristic'"),
    ]
    for target, options, message in causes:
        with pytest.raises(LampworkError, match=message):
            init(target, **options)
