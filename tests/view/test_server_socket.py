"""The server as a process: what it prints, how it follows a run, how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

COMMAND = """
from lampwork.cli import main
from lampwork.view import server
server.built_page = lambda: {"index.html": b"<!doctype html>"}
main()
"""
ANSWER_WITHIN_S = 30


@contextmanager
def viewing(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`lampwork view` over a folder, and its port."""
    command = [sys.executable, "-c", COMMAND, "view", "--no-browser", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, line
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait(ANSWER_WITHIN_S)
        process.stdout.close()


def ask(port: int, text: str) -> socket.socket:
    """A connection on which one request was sent, byte for byte."""
    connection = socket.create_connection(("127.0.0.1", port), ANSWER_WITHIN_S)
    connection.sendall(text.replace("\n", "\r\n").encode())
    return connection


def read_until(connection: socket.socket, word: str) -> str:
    """What comes until a word appears."""
    text, until = "", time.monotonic() + ANSWER_WITHIN_S
    while word not in text and time.monotonic() < until:
        piece = connection.recv(65536)
        if not piece:
            break
        text += piece.decode()
    assert word in text, text
    return text


@pytest.fixture
def folder(mlp) -> Path:
    """A folder with the run `mlp`, its writer still open."""
    mlp.writer.flush()
    return mlp.folder.parent


def test_raw_requests_are_refused_on_the_wire(folder):
    """No client in between cleans up the path, the Host or the method."""
    own = "Host: 127.0.0.1\nConnection: close\n\n"
    with viewing(folder) as (_, port):
        for request, status in (
            (f"GET /api/runs/../../etc/overview HTTP/1.1\n{own}", " 404 "),
            (f"GET /../../../../etc/passwd HTTP/1.1\n{own}", " 404 "),
            (f"GET /api/runs/%2e%2e/overview HTTP/1.1\n{own}", " 404 "),
            (f"POST /api/runs HTTP/1.1\n{own}", " 405 "),
            ("GET / HTTP/1.1\nHost: evil.example\nConnection: close\n\n", " 403 "),
            (f"GET / HTTP/1.1\nOrigin: http://evil.example\n{own}", " 403 "),
            (f"GET / HTTP/1.1\n{own}", " 200 "),
        ):
            with closing(ask(port, request)) as connection:
                assert status in read_until(connection, "\r\n").split("\r\n")[0], request


def test_the_server_listens_on_loopback_alone(folder):
    """Another address of this machine gets no connection."""
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    others = {host for host in others if not host.startswith("127.") and host != "::1"}
    with viewing(folder) as (_, port):
        for host in others:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, port), 2).close()


def test_a_run_is_followed_and_ctrl_c_ends_at_once(folder, mlp):
    """An event comes when the record grows; with the stream open, Ctrl-C ends within a second."""
    with viewing(folder) as (process, port):
        request = "GET /api/events?run=mlp HTTP/1.1\nHost: 127.0.0.1\n\n"
        with closing(ask(port, request)) as connection:
            head = read_until(connection, "retry: 1000")
            assert "text/event-stream" in head
            time.sleep(0.8)  # so that it has looked once
            mlp.writer.scalar(99, "loss", 1.0)
            assert mlp.writer.flush()
            # The step that was recorded before is no news.
            told = read_until(connection, "}").partition("event: change\ndata: ")[2]
            assert json.loads(told[: told.index("}") + 1]) == {
                "run": "mlp", "steps": 0, "scalars": 1, "pictures": 0, "notes": 0, "step": -1,
                "finished": True,
            }  # fmt: skip
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(ANSWER_WITHIN_S) == 0
            assert time.monotonic() - began < 2.0  # one second, and one for a busy machine
    assert mlp.writer.close() is None
