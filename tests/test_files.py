"""Files are whole or as they were, errors are one clear line, and locks say who holds them."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dfmobile.errors import FileFormatError, LockedError, StorageError
from dfmobile.files import (
    FileLock,
    atomic_path,
    atomic_write,
    atomic_write_json,
    atomic_write_together,
    read_bytes,
    read_json,
    sha256_hex,
    storage_error,
)


@contextmanager
def process(program: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program that says ``ready`` when it is; it is gone at the end of the block."""
    child = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


class TestAtomicWrite:
    def test_writes_and_makes_missing_folders(self, tmp_path: Path) -> None:
        target = tmp_path / "new" / "folder" / "file.txt"
        atomic_write(target, "grüße ≺\n")
        assert target.read_bytes() == "grüße ≺\n".encode()
        atomic_write(target, b"\x00\xff")
        assert target.read_bytes() == b"\x00\xff"
        assert list(target.parent.iterdir()) == [target]

    def test_follows_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            atomic_write(tmp_path / "file", b"")
        finally:
            os.umask(before)
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640

    def test_an_exception_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        target = tmp_path / "file"
        target.write_bytes(b"old")

        def fail() -> None:
            with atomic_path(target) as temporary:
                temporary.write_bytes(b"half of the n")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert target.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [target]

    def test_kill_9_leaves_the_old_file(self, tmp_path: Path) -> None:
        target = tmp_path / "file"
        target.write_bytes(b"old")
        program = """
import sys, time
from dfmobile.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half of the n")
    print("ready", flush=True)
    time.sleep(60)
"""
        with process(program, target) as child:
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert target.read_bytes() == b"old"
        atomic_write(target, b"new")
        assert target.read_bytes() == b"new"

    def test_a_reader_never_sees_a_part(self, tmp_path: Path) -> None:
        target = tmp_path / "file"
        atomic_write(target, b"a" * 100_000)
        with target.open("rb") as stream, atomic_path(target) as temporary:
            temporary.write_bytes(b"b" * 50_000)
            assert stream.read() == target.read_bytes() == b"a" * 100_000
        assert target.read_bytes() == b"b" * 50_000

    def test_json(self, tmp_path: Path) -> None:
        target = tmp_path / "document.json"
        atomic_write_json(target, {"a": [1, "≺"]})
        assert target.read_text(encoding="utf-8") == '{\n  "a": [\n    1,\n    "≺"\n  ]\n}\n'
        with pytest.raises(ValueError, match="not JSON compliant"):
            atomic_write_json(target, {"a": float("nan")})
        assert read_json(target) == {"a": [1, "≺"]}


class TestRefusals:
    def test_under_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match=r"cannot write .*table: part of the path is a file, not a folder"):
            atomic_write(tmp_path / "file" / "sub" / "table", b"")

    def test_onto_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(StorageError, match=r"cannot write .*folder: it is a folder, not a file"):
            atomic_write(tmp_path / "folder", b"")
        assert [item.name for item in tmp_path.iterdir()] == ["folder"]

    def test_too_long_a_name(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="the file name is too long"):
            atomic_write(tmp_path / ("x" * 300), b"")

    @pytest.mark.parametrize(
        ("number", "says"),
        [
            (errno.ENOSPC, "no space left on the disk"),
            (errno.EDQUOT, "the disk quota is used up"),
            (errno.EROFS, "the file system is read-only"),
            (errno.EACCES, "permission denied"),
            (errno.ENOENT, "no such file or folder"),
            (errno.EIO, "Input/output error"),
        ],
    )
    def test_what_the_system_says_becomes_one_line(self, number: int, says: str) -> None:
        error = storage_error(OSError(number, os.strerror(number)), Path("a/b"), "write")
        assert str(error) == f"cannot write a/b: {says}"
        assert "\n" not in error.hint

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: see the read-only file system's test")
    def test_without_permission(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(StorageError, match="permission denied"):
                atomic_write(tmp_path / "file", b"")
        finally:
            tmp_path.chmod(0o700)


def in_private_mounts(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount things which nobody else sees and which vanish with it."""
    command = ["unshare", "-Urm", "sh", "-c", script, "sh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def on_tmpfs(tmp_path: Path) -> Callable[[str, str], list[str]]:
    """Return a function that runs a program on a small file system of its own and gives the lines it prints.

    Its parameters: mount options, and the program, whose ``sys.argv[1]`` is the folder.
    """
    folder = tmp_path / "mounted"
    folder.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("no 'unshare' here: read-only and full file systems cannot be made")
    mount = 'mount -t tmpfs -o "$1" tmpfs "$2"'
    probe = in_private_mounts(mount, "size=64k", str(folder))
    if probe.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {probe.stderr.strip()}")

    def run(options: str, program: str) -> list[str]:
        result = in_private_mounts(f'{mount} && exec "$3" -c "$4" "$2"', options, str(folder), sys.executable, program)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    return run


REFUSED = """
import os, sys
from dfmobile.errors import StorageError
from dfmobile.files import FileLock, atomic_write
folder = sys.argv[1]

def attempt(function, *arguments):
    try:
        function(*arguments)
    except StorageError as error:
        print(str(error).replace(folder, "FOLDER"), "|", error.hint)
"""


def test_a_read_only_file_system(on_tmpfs: Callable[[str, str], list[str]]) -> None:
    program = (
        REFUSED
        + """
attempt(atomic_write, f"{folder}/table", b"x")
attempt(atomic_write, f"{folder}/new/table", b"x")
attempt(FileLock(f"{folder}/table", "building").__enter__)
"""
    )
    assert on_tmpfs("ro,size=64k", program) == [
        "cannot write FOLDER/table: the file system is read-only | choose another output folder",
        "cannot write FOLDER/new/table: the file system is read-only | choose another output folder",
        "cannot write FOLDER/table.lock: the file system is read-only | choose another output folder",
    ]


def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new_one(
    on_tmpfs: Callable[[str, str], list[str]],
) -> None:
    program = (
        REFUSED
        + """
atomic_write(f"{folder}/table", b"old")
attempt(atomic_write, f"{folder}/table", bytes(1 << 20))
print(os.listdir(folder), open(f"{folder}/table").read())
"""
    )
    assert on_tmpfs("size=64k", program) == [
        "cannot write FOLDER/table: no space left on the disk | free some space and run the command again",
        "['table'] old",
    ]


class TestReading:
    def test_bytes_up_to_a_limit(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"12345")
        assert read_bytes(tmp_path / "file") == read_bytes(tmp_path / "file", 5) == b"12345"
        with pytest.raises(FileFormatError, match="is larger than 4 bytes"):
            read_bytes(tmp_path / "file", 4)

    def test_missing_and_folders(self, tmp_path: Path) -> None:
        for function in (read_bytes, read_json, sha256_hex):
            with pytest.raises(StorageError, match=r"cannot read .*none: no such file or folder"):
                function(tmp_path / "none")
            with pytest.raises(StorageError, match="it is a folder, not a file"):
                function(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"a": 1} x', b"[" * 100_000, b"nan"])
    def test_what_is_not_json(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "file.json").write_bytes(content)
        with pytest.raises(FileFormatError, match=r"file\.json is not valid JSON") as caught:
            read_json(tmp_path / "file.json")
        assert "\n" not in str(caught.value)

    def test_sha256(self, tmp_path: Path) -> None:
        data = bytes(range(256)) * 10_000
        (tmp_path / "file").write_bytes(data)
        assert sha256_hex(tmp_path / "file") == hashlib.sha256(data).hexdigest()


HOLDER = """
import sys, time
from dfmobile.files import FileLock
with FileLock(sys.argv[1], "building the table"):
    print("ready", flush=True)
    time.sleep(60)
"""


class TestFileLock:
    def test_another_process_is_told_who_holds_it(self, tmp_path: Path) -> None:
        table = tmp_path / "table.sqlite"
        with process(HOLDER, table) as holder:
            with pytest.raises(LockedError) as caught, FileLock(table, "building the table"):
                pass
            assert str(caught.value) == f"process {holder.pid} is already building the table {table}"
            assert caught.value.holder_pid == holder.pid
            assert "nothing it has finished will be lost" in caught.value.hint

    def test_kill_9_frees_it(self, tmp_path: Path) -> None:
        table = tmp_path / "table.sqlite"
        with process(HOLDER, table) as holder:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        assert (tmp_path / "table.sqlite.lock").read_text() == f"{holder.pid}\n"  # left over, and blocks nobody
        with FileLock(table, "building the table"):
            assert (tmp_path / "table.sqlite.lock").read_text() == f"{os.getpid()}\n"

    def test_is_free_again_after_the_block_and_after_an_exception(self, tmp_path: Path) -> None:
        lock = FileLock(tmp_path / "new" / "table", "building")
        for _ in range(2):
            with pytest.raises(RuntimeError, match="in the block"), lock:
                raise RuntimeError("in the block")
        assert (tmp_path / "new" / "table.lock").read_text() == ""

    def test_excludes_other_users_in_the_same_process(self, tmp_path: Path) -> None:
        with FileLock(tmp_path / "table", "building"):
            with pytest.raises(LockedError) as caught, FileLock(tmp_path / "table", "building"):
                pass
            assert caught.value.holder_pid == os.getpid()
            with FileLock(tmp_path / "another", "building"):
                pass

    def test_a_holder_that_cannot_be_read_is_unknown(self, tmp_path: Path) -> None:
        with FileLock(tmp_path / "table", "building"):
            (tmp_path / "table.lock").write_bytes(b"\xff\xfe")
            with pytest.raises(LockedError, match=r"process \(unknown\) is already") as caught:
                FileLock(tmp_path / "table", "building").__enter__()
            assert caught.value.holder_pid is None

    def test_where_no_lock_can_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match=r"cannot write .*table\.lock: part of the path is a file"):
            FileLock(tmp_path / "file" / "table", "building").__enter__()


def test_files_that_belong_together_are_all_written_or_none(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "new" / "b"
    atomic_write_together({first: b"1", second: b"2"})
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="it is a folder"):
        atomic_write_together({first: b"3", tmp_path / "folder": b"4"})
    with pytest.raises(StorageError, match="part of the path is a file"):
        atomic_write_together({second: b"3", first / "below": b"4"})
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "new", "folder"}


def test_a_limit_takes_no_memory_for_itself(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x" * 10)
    tracemalloc.start()
    assert read_bytes(tmp_path / "small", limit_bytes=2**40) == b"x" * 10
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    assert len(read_bytes("/proc/self/status", limit_bytes=2**20)) > 100  # says to have no bytes
