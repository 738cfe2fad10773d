"""The drawing in ARCHITECTURE.md, held against the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "lampwork"

MAY_IMPORT = {
    "_core": set(),
    "_native": {"_core"},
    "data": {"_core", "_native"},
    "taps": {"_core", "_native"},
    "init": {"_core", "_native", "taps"},
    "record": {"_core"},
    "diagnose": {"_core", "record"},
    "watching": {"_core", "taps", "record", "diagnose"},
    "view": {"_core", "record", "diagnose"},
    "callbacks": {"_core", "record", "diagnose", "watching", "view"},
    "cli": {"_core", "_native", "data", "taps", "init", "record", "diagnose", "watching", "view"},
}
TORCHLESS = ("_core", "record", "diagnose", "view")
MODULES = sorted(SRC.rglob("*.py"))


def imports_of(file: Path) -> list[str]:
    """Absolute dotted names of everything the file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def room_of(file: Path) -> str:
    """The folder of the package that the file lives in; '' for the package's own files."""
    parts = file.relative_to(SRC).parts
    return parts[0] if len(parts) > 1 else ""


def test_every_folder_is_in_the_drawing():
    """A new folder is drawn before it is built."""
    assert {room_of(file) for file in MODULES} - {""} == set(MAY_IMPORT)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SRC)))
def test_imports_point_down(file: Path):
    """A file imports only from its own folder and from those below it."""
    room = room_of(file)
    if not room:
        return
    ours = [name.split(".") for name in imports_of(file) if name.split(".")[0] == "lampwork"]
    used = {parts[1] for parts in ours if len(parts) > 1}
    assert used <= MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("room", TORCHLESS)
def test_rooms_without_torch_do_not_name_it(room: str):
    """What reads a record works where torch is not installed."""
    for file in (SRC / room).rglob("*.py"):
        assert not [name for name in imports_of(file) if name.split(".")[0] == "torch"], file


def test_only_tap_registers_hooks():
    """All hooks come from one file, so that one file can be shown to remove them."""
    for file in MODULES:
        calls = [
            node.func.attr
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]
        hooks = [name for name in calls if name.startswith("register_") and "hook" in name]
        assert not hooks or file == SRC / "taps" / "tap.py", f"{file} registers {hooks}"


def test_files_are_named_for_things_of_the_domain():
    """No file is a drawer for what did not find a place."""
    drawers = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
    assert not [file for file in MODULES if file.stem in drawers]


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running the code."""
    report = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", f"{code}\n{report}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_lampwork_loads_nothing_heavy():
    """`import lampwork` leaves everything for later, torch included."""
    heavy = {"torch", "numpy", "matplotlib", "starlette", "uvicorn", "rich", "typer"}
    assert not loaded_by("import lampwork") & heavy


@pytest.mark.parametrize(
    "code",
    [
        "import lampwork.cli.app",
        "import lampwork.record.reader, lampwork.record.writer",
        "import lampwork.diagnose.verdict",
        "import lampwork.view.report, lampwork.view.figures, lampwork.view.terminal",
        "import lampwork.view.server",
    ],
)
def test_reading_a_record_never_loads_torch(code: str):
    """The command line, the record, the rules and the pages load without torch."""
    assert "torch" not in loaded_by(code)


def test_the_probe_can_fail():
    """The probe sees torch where torch is loaded, so its silence means something."""
    assert "torch" in loaded_by("import torch")
