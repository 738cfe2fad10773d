"""`lampwork demo`: the three pillars on real digits, ending in a verdict and a page."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from lampwork._core.errors import InputError
from lampwork.cli.demo import demo
from tests.cli.scripts import lampwork


def test_the_demo_ends_with_a_verdict_and_a_page(tmp_path: Path):
    """A few epochs suffice for nine of ten digits; the verdict is good, the page stands alone."""
    done = lampwork(tmp_path, "demo", "--epochs", "3", "--dir", "out")
    assert done.code == 0, done.err
    *_, verdict, report = done.out.splitlines()
    assert verdict.startswith("verdict: pass")
    page = tmp_path / report.removeprefix("report: ")
    assert page == tmp_path / "out" / "demo" / "report.html"
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) <= 2_000_000
    assert not re.search(r"https?:|(?:src|href)=[\"'](?!data:|#)", text)
    (accuracy,) = re.findall(r"^validation accuracy: ([\d.]+)$", done.out, re.MULTILINE)
    assert float(accuracy) > 0.9


def test_the_broken_demo_is_told_what_is_wrong_and_where(tmp_path: Path):
    """The head that the optimizer does not know stands first, although the accuracy looks fine."""
    done = lampwork(tmp_path, "demo", "--broken", "--epochs", "2", "--dir", "out")
    assert done.code == 0, done.err
    assert "verdict: fail — optim-missing-params at 12.weight since step 0" in done.out
    assert "optimizer.add_param_group" in done.out
    report = json.loads((tmp_path / "out" / "demo-broken" / "report.json").read_text())
    assert [finding["code"] for finding in report["findings"]] == ["optim-missing-params"]
    (accuracy,) = re.findall(r"^validation accuracy: ([\d.]+)$", done.out, re.MULTILINE)
    assert float(accuracy) > 0.8


def test_the_demo_needs_scikit_learn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without it the message says what to install, before anything is trained."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match=r"scikit-learn is not installed: pip install 'lampwork"):
        demo(epochs=1, directory=str(tmp_path), seed=0, broken=False)
    assert list(tmp_path.iterdir()) == []
