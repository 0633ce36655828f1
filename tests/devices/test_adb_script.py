"""The scripts around commands do what they say in every shell that a device may have."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfmobile.devices.transport.adb_script import (
    FarShell,
    MarkReader,
    command_script,
    kill_script,
    look_around,
    read_around,
)

TOKEN = "fedcba98"  # noqa: S105
SHELLS = {"dash": ["dash"], "mksh": ["mksh"], "bash": ["bash", "--posix"], "sh": ["sh"]}
SETSIDS = ["setsid", "toybox setsid", ""]


@pytest.fixture(params=[*SHELLS])
def shell(request: pytest.FixtureRequest) -> list[str]:
    if shutil.which(SHELLS[request.param][0]) is None:
        pytest.skip(f"skipped: no {request.param}")
    return SHELLS[request.param]


@pytest.fixture(params=SETSIDS, ids=["setsid", "toybox", "none"])
def far(request: pytest.FixtureRequest) -> FarShell:
    if request.param and shutil.which(request.param.split()[0]) is None:
        pytest.skip(f"skipped: no {request.param}")
    return FarShell("/tmp", request.param, False)  # noqa: S108


@contextlib.contextmanager
def started(shell: list[str], script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script as a daemon does: as the head of a session, with pipes."""
    child = subprocess.Popen(
        [*shell, "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
        child.wait()


def script(argv: list[str], far: FarShell, files: tuple[str, str] | None = None, folder: str | None = None) -> str:
    return command_script(TOKEN, argv, far, environment={"NAME": "it's"}, folder=folder, files=files, has_input=True)


def run(shell: list[str], text: str, stdin: bytes = b"", one_stream: bool = False) -> tuple[MarkReader, bytes, bytes]:
    with started(shell, text) as child:
        output, errors = child.communicate(stdin, timeout=60)
        assert child.returncode is not None
    marks = MarkReader(TOKEN, one_stream=one_stream)
    found = marks.feed(output)
    stdout = b"".join(piece for name, piece in found if name == "stdout")
    return marks, stdout, errors + b"".join(piece for name, piece in found if name == "stderr")


def test_streams_and_codes(shell: list[str], far: FarShell, tmp_path: Path) -> None:
    argv = ["sh", "-c", 'cat; printf "%s $NAME" "$1"; pwd >&2; exit 7', "sh", "a'b"]
    marks, stdout, stderr = run(shell, script(argv, far, folder=str(tmp_path)), b"in\0put ")
    assert (stdout, stderr) == (b"in\0put a'b it's", f"{tmp_path}\n".encode())
    assert (marks.exit_code, marks.finished) == (7, True)


@pytest.mark.parametrize(("argv", "code"), [(["sh", "-c", "kill -KILL $$"], 137), (["sh", "-c", "kill -SEGV $$"], 139)])
def test_signals_say_nothing(shell: list[str], far: FarShell, argv: list[str], code: int) -> None:
    marks, stdout, stderr = run(shell, script(argv, far))
    assert (marks.exit_code, stdout, stderr) == (code, b"", b"")


def test_programs_that_cannot_run(shell: list[str], far: FarShell, tmp_path: Path) -> None:
    marks, _, stderr = run(shell, script(["/no/such/program"], far))
    assert marks.exit_code == 127
    assert b"/no/such/program" in stderr
    (tmp_path / "data").write_text("x")
    assert run(shell, script([str(tmp_path / "data")], far))[0].exit_code == 126
    assert run(shell, script(["true"], far, folder="/no/where"))[0].no_folder


def test_one_stream(shell: list[str], far: FarShell, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"in")
    files = (str(tmp_path / "in"), str(tmp_path / "err"))
    marks, stdout, stderr = run(shell, script(["sh", "-c", "cat; echo bad >&2; exit 3"], far, files), one_stream=True)
    assert (stdout, stderr, marks.exit_code, marks.finished) == (b"in", b"bad\n", 3, True)
    assert list(tmp_path.iterdir()) == []


def beating(path: Path) -> bool:
    before = path.stat().st_size
    time.sleep(0.5)
    return path.stat().st_size != before


def test_what_it_leaves_is_stopped(shell: list[str], far: FarShell, tmp_path: Path) -> None:
    beat = f"while :; do echo beat >> {tmp_path}/beat; sleep 0.05; done"
    marks, stdout, _ = run(shell, script(["sh", "-c", f"{beat} & sleep 0.4; echo done"], far))
    assert (marks.exit_code, stdout) == (0, b"done\n")
    assert not beating(tmp_path / "beat")


@pytest.mark.parametrize("how", ["hang up", "kill script"])
def test_it_can_be_stopped(shell: list[str], far: FarShell, tmp_path: Path, how: str) -> None:
    beat = f"while :; do echo beat >> {tmp_path}/beat; sleep 0.05; done"
    with started(shell, script(["sh", "-c", f"{beat} & {beat}"], far)) as child:
        assert child.stdout is not None
        marks = MarkReader(TOKEN, one_stream=False)
        marks.feed(child.stdout.readline())
        assert marks.group is not None
        deadline = time.monotonic() + 30
        while not (tmp_path / "beat").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if how == "hang up":
            child.send_signal(signal.SIGHUP)
        else:
            stopping = subprocess.run([*shell, "-c", kill_script("done", marks.group)], capture_output=True, timeout=60)
            assert stopping.stdout == b"done\n"
            assert child.stdin is not None
            child.stdin.close()  # as the daemon does when the conversation ends
        child.wait(timeout=60)
        assert not beating(tmp_path / "beat")


def test_another_group_is_never_swept(shell: list[str]) -> None:
    # Without a session of its own the shell is in our group: nothing may be run, and nothing killed.
    text = script(["true"], FarShell(None, "", False))
    result = subprocess.run([*shell, "-c", text], capture_output=True, timeout=60, check=False)
    marks = MarkReader(TOKEN, one_stream=False)
    marks.feed(result.stdout)
    assert marks.no_group


def test_looking_around(shell: list[str], tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    output = subprocess.run([*shell, "-c", look_around(TOKEN)], capture_output=True, env=environment, timeout=60).stdout
    found = read_around(TOKEN, output)
    assert found is not None
    assert found.scratch in (str(tmp_path), "/data/local/tmp")
    assert found.setsid
    assert not found.returns
    through_terminal = read_around(TOKEN, output.replace(b"\n", b"\r\n"))
    assert through_terminal == FarShell(found.scratch, found.setsid, True)
    assert read_around(TOKEN, output[: len(output) // 2]) is None
