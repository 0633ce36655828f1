"""A real adb server of the tests' own: on a free port, with a home of its own, stopped at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def adb_server(home: Path) -> Iterator[int]:
    """Run a server; yield its port. Skips where the program adb is not installed."""
    program = shutil.which("adb")
    if program is None:
        pytest.skip("skipped: no adb (package adb)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "ADB_MDNS": "0"}
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [program, "-P", str(port), "nodaemon", "server"],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield port
    finally:
        server.kill()
        server.wait()


def ask(port: int, request: str) -> str:
    """Ask the server; return its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"%04x" % len(request) + request.encode())
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
            if len(answer) >= 8 and len(answer) >= 8 + int(answer[4:8], 16):
                break
    return answer[8:].decode()
