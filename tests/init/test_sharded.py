import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available())
    or sys.platform == "win32",
    reason="needs gloo and fork",
)


def test_assembled_shards_are_the_whole_tensor_bit_for_bit():
    """1 to 4 ranks, plain DTensor and FSDP2, on meta too; uneven shards, 2-D meshes, HSDP, TP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.init.sharded", str(port)]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
