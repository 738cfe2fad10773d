"""`lampwork run`: the script's own stays its own, and the verdict comes on top."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lampwork.record.reader import Record
from tests.cli.scripts import TRAIN, lampwork, python

# Scripts that behave in some way of their own; none of them needs torch.
BEHAVIOURS = {
    "exits with a number": "import sys; print('out'); sys.exit(3)",
    "exits with a message": "import sys; sys.exit('no data found')",
    "raises": "def load():\n    raise ValueError('no such column')\n\nprint('out')\nload()\n",
    "raises from": "try:\n    {}['a']\nexcept KeyError as e:\n    raise OSError('bad') from e\n",
    "is not Python": "def f(:\n    pass\n",
    "looks around": (
        "import sys, os, __main__\n"
        "print(sys.argv, __name__, __file__, __spec__, sys.path[0], os.getcwd())\n"
        "print(__main__.__file__, sorted(globals()))\n"
    ),
    "pickles its own class": (
        "import pickle\nclass Mine: pass\nprint(type(pickle.loads(pickle.dumps(Mine()))))\n"
    ),
    "has exit handlers": (
        "import atexit\natexit.register(print, 'bye')\nclass A: pass\n"
        "atexit.register(lambda: print(A.__module__))\n"
    ),
    "reads stdin and closes": "import sys; print(sys.stdin.read()); sys.stdout.close()",
    "starts a process": (
        "import multiprocessing as mp\n"
        "def work(q): q.put(__name__)\n"
        "if __name__ == '__main__':\n"
        "    context = mp.get_context('spawn'); q = context.Queue()\n"
        "    p = context.Process(target=work, args=(q,)); p.start(); print(q.get()); p.join()\n"
    ),
    "is interrupted": "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
    "sets its own excepthook": (
        "import sys\nsys.excepthook = lambda *a: print('mine', a[1])\nraise RuntimeError('x')\n"
    ),
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_the_script_behaves_as_without_us(behaviour: str, tmp_path: Path):
    """Output, errors and exit code are those of `python SCRIPT`."""
    (tmp_path / "script.py").write_text(BEHAVIOURS[behaviour])
    plain = python(tmp_path, "script.py", "--flag", "value", "--every", "3")
    ours = lampwork(tmp_path, "run", "--quiet", "script.py", "--flag", "value", "--every", "3")
    assert ours == plain


FAILING_TRAINING = (
    TRAIN.replace("print(", "raise SystemExit(print(").replace("])\n", "]))\n"),
    TRAIN.replace(
        "for epoch",
        "class Bad(nn.Module):\n    def forward(self, x):\n"
        "        raise RuntimeError('in forward')\n\nmodel.append(Bad())\nfor epoch",
    ),
    TRAIN.replace(  # a hook of the user's own: torch's way over `inner` is then the plain one too
        "for epoch",
        "class Bad(nn.Module):\n    def forward(self, x):\n"
        "        raise RuntimeError('in forward')\n\nmodel.append(Bad())\n"
        "model[-1].register_forward_hook(lambda module, args, output: None)\nfor epoch",
    ),
    TRAIN.replace("model(images), labels", "model(images), labels[:5]"),
    TRAIN.replace("optimizer.zero_grad()", "loss.register_hook(lambda g: 1 / 0)"),
    TRAIN.replace("TensorDataset(x, y)", "list(x)"),
)


@pytest.mark.parametrize("script", FAILING_TRAINING)
def test_a_training_that_fails_shows_the_same_traceback(script: str, tmp_path: Path):
    """Neither our frames nor those that torch adds for hooks stand in the user's traceback."""
    (tmp_path / "train.py").write_text(script)
    plain = python(tmp_path, "train.py")
    ours = lampwork(tmp_path, "run", "--quiet", "train.py")
    assert ours == plain


def test_training_is_recorded_and_bitwise_unchanged(tmp_path: Path):
    """An unchanged script trains to the same weights; its loss and its loader are recorded."""
    (tmp_path / "train.py").write_text(TRAIN)
    plain = python(tmp_path, "train.py")
    ours = lampwork(tmp_path, "run", "--dir", "out", "--name", "first", "--every", "4", "train.py")
    assert (ours.code, ours.out) == (plain.code, plain.out)
    assert "lampwork: verdict: pass" in ours.err

    record = Record(tmp_path / "out" / "first")
    assert record.steps.tolist() == list(range(0, 32, 4))
    steps, losses = record.scalar("loss")
    assert steps.tolist() == list(range(32))
    assert losses[-1] == pytest.approx(float(plain.out.split()[0]))
    assert [loader.dataset for loader in record.loaders] == ["TensorDataset"]
    report = json.loads((tmp_path / "out" / "first" / "report.json").read_text())
    assert report["verdict"] == "pass"


def test_no_loader_keeps_torchs_loader(tmp_path: Path):
    """With --no-loader the script gets torch's own class."""
    (tmp_path / "script.py").write_text(
        "import torch.utils.data as d; print(d.DataLoader.__module__)"
    )
    assert lampwork(tmp_path, "run", "--quiet", "script.py").out == "lampwork.data.loader\n"
    kept = lampwork(tmp_path, "run", "--quiet", "--no-loader", "script.py").out
    assert kept == "torch.utils.data.dataloader\n"


def test_the_loader_is_one_class_under_both_of_its_names(tmp_path: Path):
    """A loader made under one of torch's two names is an instance of the other."""
    (tmp_path / "script.py").write_text(
        "import torch.utils.data as d\n"
        "from torch.utils.data.dataloader import DataLoader\n"
        "one, other = DataLoader([1]), d.DataLoader([1])\n"
        "print(isinstance(one, d.DataLoader), isinstance(other, DataLoader))"
    )
    assert lampwork(tmp_path, "run", "--quiet", "script.py").out == "True True\n"


def test_the_script_sets_the_environment_before_torch(tmp_path: Path):
    """The import of torch waits for the script, which may set OMP_NUM_THREADS before it."""
    (tmp_path / "script.py").write_text("import sys; print('torch' in sys.modules)")
    assert lampwork(tmp_path, "run", "script.py").out == "False\n"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("print(1)", "torch was not imported, so there was nothing to watch"),
        ("import torch; print(1)", "no optimizer.step() was seen, so there was nothing to watch"),
        (
            "import torch\np = torch.zeros(2, requires_grad=True)\n"
            "o = torch.optim.SGD([p], lr=1)\n(p - 1).square().sum().backward()\no.step()\nprint(1)",
            "1 optimizer step, but no model was watched",
        ),
    ],
)
def test_nothing_to_watch_is_told(script: str, told: str, tmp_path: Path):
    """A script that trains nothing runs to its end, and one line says why there is no verdict."""
    (tmp_path / "script.py").write_text(script)
    done = lampwork(tmp_path, "run", "script.py")
    assert (done.code, done.out) == (0, "1\n")
    assert done.err.startswith(f"lampwork: {told}")
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_leaves_the_script_alone(tmp_path: Path):
    """Training goes on unrecorded, and the reason and the cure are told."""
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "runs").write_text("a file where the folder should be")
    plain, ours = python(tmp_path, "train.py"), lampwork(tmp_path, "run", "train.py")
    assert (ours.code, ours.out) == (plain.code, plain.out)
    assert "this run is not recorded: cannot write a run folder in 'runs'" in ours.err
    assert "--dir" in ours.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run"], "nothing to run"),
        (["run", "absent.py"], "there is no file 'absent.py' to run"),
        (["run", "--every", "0", "x.py"], "--every"),
        (["report", "absent"], "no record of a run at 'absent'"),
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str], told: str, tmp_path: Path):
    """What cannot be meant is told before anything runs."""
    done = lampwork(tmp_path, *arguments)
    assert done.code == 2
    assert told in done.err


def test_a_module_runs_as_with_python_m(tmp_path: Path):
    """`-m` runs a module of the working directory with its own arguments."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "train.py").write_text("import sys\nprint(__name__, sys.argv, sys.path[0])\n")
    plain = python(tmp_path, "-m", "package.train", "--lr", "1")
    assert lampwork(tmp_path, "run", "--quiet", "-m", "package.train", "--lr", "1") == plain


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_still_gets_its_verdict(tmp_path: Path):
    """After kill -9 the record can be read, and `lampwork report` tells what there was."""
    slow = "optimizer.step()\n        print(flush=True)\n        __import__('time').sleep(0.01)\n"
    endless = TRAIN.replace("range(4)", "range(10**9)").replace("optimizer.step()\n", slow)
    (tmp_path / "train.py").write_text(endless)
    command = [sys.executable, "-m", "lampwork", "run", "--name", "killed", "train.py"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, env=os.environ)
    assert process.stdout is not None
    for _ in range(150):
        process.stdout.readline()
    process.kill()
    process.wait(timeout=20)
    process.stdout.close()
    done = lampwork(tmp_path, "report", "killed", "--json")
    assert done.code == 0
    report = json.loads(done.out)
    assert report["verdict"] == "pass"
    assert Record(tmp_path / "runs" / "killed").steps.tolist()[:3] == [0, 10, 20]
