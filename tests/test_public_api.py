"""What users may rely on: names, arguments and defaults, as the README tells them."""

from __future__ import annotations

import inspect

import pytest
import torch

import lampwork as lw
import lampwork.data
import lampwork.init


def parameters(function) -> dict[str, object]:
    """Argument name → default, `inspect.Parameter.empty` where there is none."""
    return {name: p.default for name, p in inspect.signature(function).parameters.items()}


def keyword_only(function) -> set[str]:
    """Names of the keyword-only arguments."""
    found = inspect.signature(function).parameters.values()
    return {p.name for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY}


def test_the_root_lists_what_it_has():
    """`__all__`, `dir` and the namespace agree, and each name resolves."""
    assert dir(lw) == sorted(lw.__all__)
    for name in lw.__all__:
        assert getattr(lw, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    """A typo gets Python's own error."""
    with pytest.raises(AttributeError, match="module 'lampwork' has no attribute 'wtch'"):
        lw.wtch  # noqa: B018


def test_data_loader_has_torchs_arguments():
    """The loader is a DataLoader of torch's and takes its arguments in its order."""
    assert issubclass(lw.DataLoader, torch.utils.data.DataLoader)
    ours, theirs = parameters(lw.DataLoader), parameters(torch.utils.data.DataLoader)
    assert list(ours)[: len(theirs)] == list(theirs)
    assert all(ours[name] == default for name, default in theirs.items())


def test_watch():
    """`watch` has the arguments and defaults of the design."""
    expected = {
        "every": 10,
        "budget": None,
        "dir": "runs",
        "name": None,
        "optimizer": None,
        "pictures": True,
    }
    found = parameters(lw.watch)
    assert {name: found[name] for name in expected} == expected
    assert keyword_only(lw.watch) >= set(expected)


def test_capture():
    """`capture` takes globs, and its switches by keyword only."""
    assert list(parameters(lw.capture))[:2] == ["model", "globs"]
    assert parameters(lw.capture)["gradients"] is True
    assert parameters(lw.capture)["clone"] is True
    assert keyword_only(lw.capture) == {"gradients", "clone", "edit"}


def test_init():
    """`plan`, `initialize`, `layerwise` and `pretrained` have the arguments of the design."""
    assert keyword_only(lw.init.plan) == {"scheme", "rules"}
    assert parameters(lw.init.plan)["scheme"] == "auto"
    assert parameters(lw.init.plan)["rules"] == ()
    assert parameters(lw.init.plan)["example"] is None
    assert parameters(lw.init.initialize)["seed"] == 0
    assert parameters(lw.init.layerwise)["bias"] == 0.0
    assert parameters(lw.init.pretrained)["rename"] == ()
    assert parameters(lw.init.Plan.apply)["seed"] == 0


def test_check():
    """`check` looks at eight samples unless told."""
    assert parameters(lw.data.check)["samples"] == 8


def test_the_version_is_that_of_the_package():
    """`__version__` is what pip installed."""
    from importlib.metadata import version

    assert lw.__version__ == version("lampwork")
