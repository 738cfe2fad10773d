"""What the documents say is true: their code runs, their tables match the code."""

from __future__ import annotations

import doctest
import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from lampwork.diagnose.pages import pages

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
BLOCK = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(readme: str, language: str, title: str = "") -> list[str]:
    """The code blocks of a document in one language, with that title or without any."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    return [body for kind, name, body in BLOCK.findall(text) if (kind, name) == (language, title)]


def section(readme: str, pattern: str) -> list[str]:
    """First cells of the table whose first row of cells matches the pattern."""
    return re.findall(pattern, (ROOT / readme).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All Python of the README runs from top to bottom, as a reader would paste it."""
    monkeypatch.chdir(tmp_path)
    found = blocks("README.md", "python")
    assert len(found) >= 4
    (tmp_path / "readme.py").write_text("\n".join(found), encoding="utf-8")
    runpy.run_path("readme.py", run_name="__main__")


def test_the_page_on_initialisation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All of its Python, from top to bottom."""
    monkeypatch.chdir(tmp_path)
    found = blocks("docs/initialisation.md", "python")
    assert len(found) == 2
    (tmp_path / "page.py").write_text("\n".join(found), encoding="utf-8")
    runpy.run_path("page.py", run_name="__main__")


def test_the_verdict_in_the_readme_is_real(tmp_path: Path):
    """The script with the mistake, watched unchanged, gets the verdict that the README shows."""
    (script,) = blocks("README.md", "python", "forgot.py")
    (shown,) = blocks("README.md", "text", "forgot.py")
    (tmp_path / "forgot.py").write_text(script, encoding="utf-8")
    lampwork = [sys.executable, "-m", "lampwork"]
    printed = ""
    for command in (["run", "--name", "forgot", "forgot.py"], ["report", "forgot"]):
        done = subprocess.run(
            [*lampwork, *command], cwd=tmp_path, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    # Numbers may differ in the last digits from platform to platform, and so may line breaks.
    number = re.compile(r"[\d.]+")
    assert number.sub("#", " ".join(shown.split())) in number.sub("#", " ".join(printed.split()))


def test_both_readmes_show_the_same_code():
    """The Chinese README differs in its comments alone."""

    def code(readme: str) -> list[str]:
        text = (ROOT / readme).read_text(encoding="utf-8")
        found = [body for _, _, body in BLOCK.findall(text)]
        return [re.sub(r" *#.*", "", body) for body in found]

    assert code("README.md") == code("README.zh-CN.md")


@pytest.mark.parametrize("readme", READMES)
def test_the_findings_are_all_listed(readme: str):
    """The README lists exactly the codes that have a page, in their order."""
    assert section(readme, r"^\| `([a-z]+-[a-z-]+)` \|") == list(pages())


def test_the_readme_says_of_findings_what_their_pages_say():
    """The meanings in the table are those of the rules."""
    told = dict(section("README.md", r"^\| `([a-z]+-[a-z-]+)` \| (.*) \|$"))
    assert told == {page.code: page.meaning for page in pages().values()}


def test_the_pages_on_findings_are_those_of_the_rules():
    """`python docs/findings.py` would change nothing."""
    made = runpy.run_path(str(ROOT / "docs" / "findings.py"))["made"]()
    kept = (ROOT / "docs" / "findings").iterdir()
    assert {file.name: file.read_text(encoding="utf-8") for file in kept} == made


@pytest.mark.parametrize("readme", READMES)
def test_the_loaders_arguments_are_all_listed_and_used(readme: str):
    """The README's table has torch's arguments, and the first example uses each of them."""
    import inspect

    import torch

    names = list(inspect.signature(torch.utils.data.DataLoader).parameters)
    listed = section(readme, r"^\| `(\w+)` \|(?= [^|]*\|[^|]*\|$)")
    expected = [name for name in names if name != "pin_memory_device"]  # deprecated by torch
    assert [name for name in listed if name in names]
    assert set(expected) <= set(listed)
    example = (ROOT / "examples" / "01_dataset_and_loader.py").read_text(encoding="utf-8")
    assert [name for name in expected if name not in example] == []


@pytest.mark.parametrize("readme", READMES)
def test_the_schemes_are_real(readme: str):
    """Every scheme that the README names can be planned."""
    import torch

    import lampwork

    rows = section(readme, r'^\| (`"\w+"`(?:, `"\w+"`)*) \|')
    names = {name for row in rows for name in re.findall(r"\w+", row)}
    assert "kaiming_normal" in names
    for name in names:
        scheme = ("constant", {"val": 0.1}) if name == "constant" else name
        lampwork.init.plan(torch.nn.Linear(4, 4), torch.randn(8, 4), scheme=scheme).apply(seed=0)


@pytest.mark.parametrize("readme", READMES)
def test_the_commands_are_real(readme: str):
    """The README's commands and options are those of the command line, all of them."""
    import typer.main

    from lampwork.cli.app import app

    group = typer.main.get_command(app)
    listed = section(readme, r"^\| `lampwork (\w+)")
    assert sorted(listed) == sorted(group.commands)
    options = {opt for command in group.commands.values() for p in command.params for opt in p.opts}
    text = (ROOT / readme).read_text(encoding="utf-8")
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(re.findall(r"`[^`]+`", text))):
        assert option in options | {"--no-loader"}, option


@pytest.mark.parametrize("readme", READMES)
def test_the_measurements_are_those_of_the_results(readme: str):
    """The tables of measurements are those that the result files give."""
    tables = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))
    text = (ROOT / readme).read_text(encoding="utf-8")
    assert text.count(": begin -->") == len(tables["TABLES"])
    assert tables["filled"](text) == text


def test_the_tables_of_the_other_pages_are_those_of_the_results():
    """Each page has all of its tables, and each is what the result files give."""
    tables = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))
    for page, own in tables["PAGES"].items():
        text = page.read_text(encoding="utf-8")
        assert text.count(": begin -->") == len(own)
        assert tables["filled"](text, own) == text


def modules() -> list[str]:
    """Dotted names of all modules of the package."""
    source = ROOT / "src"
    files = (file.relative_to(source).with_suffix("") for file in source.rglob("*.py"))
    names = (".".join(file.parts).removesuffix(".__init__") for file in files)
    return sorted(name for name in names if not name.endswith("__main__"))


@pytest.mark.parametrize("name", modules())
def test_docstring_examples_run(name: str):
    """Every `>>>` in a docstring prints what it says."""
    failed, _ = doctest.testmod(importlib.import_module(name), verbose=False)
    assert failed == 0
