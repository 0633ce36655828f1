"""One script brings a device's files: the real script, run by real shells, and its output read with suspicion."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_trees import CPU, phone, plant
from phone_dumps import SHELLS, installed_shells, with_own_tools

from dfmobile.devices.remote_files import PHONE_FILES, FileGroup, RemoteFiles, RemoteLimits
from dfmobile.devices.remote_listing import parse_listing
from dfmobile.devices.system_files import FolderFiles
from dfmobile.devices.transport.base import CommandFailedError, CommandResult, CommandTimeoutError
from dfmobile.devices.transport.local import LocalTransport
from dfmobile.errors import DeviceError

every_shell = pytest.mark.parametrize("shell", [SHELLS[name] for name in installed_shells()], ids=installed_shells())
TINY = (FileGroup("/a", ("x", "y", "gone")), FileGroup("/b", (".",), "names"), FileGroup("/c*", ("z",), "bytes"))


def view(root: Path, groups: Sequence[FileGroup] = PHONE_FILES, **options: Any) -> RemoteFiles:
    return RemoteFiles(LocalTransport(), groups, root=str(root), **options)


def test_the_shells_of_phones_are_tried_somewhere() -> None:
    missing = sorted(set(SHELLS) - set(installed_shells()))
    if missing:
        pytest.skip(f"not tried here, because not installed: {', '.join(missing)}")


@every_shell
def test_a_phone_in_one_round_trip(tmp_path: Path, shell: tuple[str, ...]) -> None:
    root = plant(tmp_path, phone())
    remote, local = view(root, shell_command=shell), FolderFiles(root)
    assert remote.round_trips == 1
    asked = [
        path for path in phone() if not path.startswith(("/system", "/sys/class/thermal/cooling", "/dev/cpuset/cg"))
    ]
    assert len(asked) > 200
    for path in asked:
        assert remote.read(path) == local.read(path), path
    for folder in ("/sys/class/thermal", "/dev/cpuset", f"{CPU}/cpu0/cache"):
        assert remote.names(folder) == local.names(folder)
    assert remote.names("/sys/class/thermal/thermal_zone0") == ["temp", "type"]
    assert remote.closed == {}
    assert remote.cut == []


@pytest.mark.parametrize("name", ["busybox", "mksh"])
def test_with_the_tools_of_a_phone(tmp_path: Path, name: str) -> None:
    """Android's shell is mksh, its od and ls are toybox's; busybox has its own."""
    (tmp_path / "bin").mkdir()
    shell_command = with_own_tools(name, tmp_path / "bin")
    if shell_command is None:
        pytest.skip(f"{name} and its tools are not installed")
    root = plant(
        tmp_path / "root", phone() | {"/proc/device-tree/compatible": "one\0two\0", "/b/n": "", "/c1/z": "q" * 70_000}
    )
    (root / "a/y").mkdir(parents=True)
    files = view(root, [*PHONE_FILES, *TINY], shell_command=shell_command)
    local = FolderFiles(root)
    for path in ("/proc/device-tree/compatible", "/proc/cpuinfo", f"{CPU}/cpu7/cpufreq/cpuinfo_max_freq"):
        assert files.read(path) == local.read(path)
    assert files.cut == ["/c1/z"]
    assert files.names("/b") == ["n"]
    assert files.reason("/a/y") in ("is a directory", "read error")
    assert files.reason("/a/gone") == "no such file or directory"
    assert files.reason("/sys/class/power_supply") == "no such file or directory"


@every_shell
def test_reasons(tmp_path: Path, shell: tuple[str, ...]) -> None:
    plant(tmp_path, {"/a/x": "text", "/a/y/under": "", "/b/name with blanks": "", "/b/plain": "", "/d/z": ""})
    files = view(tmp_path, TINY, shell_command=shell)
    assert files.read("/a/x") == "text"
    assert files.reason("/a/x") == "it says 'text'"
    assert files.reason("/a/gone") == "no such file or directory"
    assert files.reason("/a/y") in ("is a directory", "read error")
    assert files.names("/b") == ["plain"]  # a name that could be anything is left out
    assert files.reason("/b") == "it is a folder"
    assert files.reason("/c1/z") == "no such file or directory"
    assert files.reason("/d/z") == "dfmobile does not ask for it"
    assert set(files.closed) <= {"/a/y"}


@every_shell
@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may read everything")
def test_what_this_user_may_not_read(shell: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, whose parents are closed to others
        Path(folder).chmod(0o755)
        closed_files(Path(folder), shell)


def closed_files(root: Path, shell: tuple[str, ...]) -> None:
    plant(root, {"/a/x": "secret", "/a/y": "open", "/b/inside": "", "/c1/z": "closed folder"})
    (root / "a/x").chmod(0)
    (root / "b").chmod(0)
    (root / "c1").chmod(0)
    drop = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.geteuid() == 0 else ()
    try:
        files = view(root, TINY, shell_command=(*drop, *shell))
        assert files.read("/a/y") == "open"
        assert files.read("/a/x") is None
        assert files.reason("/a/x") == "permission denied"
        assert files.names("/b") == []
        assert files.reason("/b") == "permission denied"
        assert files.reason("/b/inside") == "/b: permission denied"
        assert files.reason("/c1/z") == "permission denied"
        assert set(files.closed) == {"/a/x", "/b", "/c1/z"}
    finally:
        for name in ("b", "c1"):
            (root / name).chmod(0o755)


@every_shell
def test_content_of_any_kind(tmp_path: Path, shell: tuple[str, ...]) -> None:
    contents = {
        "nul": b"qcom,sdm845\0qcom,sdm\0",
        "binary": bytes(range(256)) * 3,
        "empty": b"",
        "no-newline": b"1766400",
        "lines": b"a\nb\n\nc\n",
        "blanks": b"  performance schedutil \n",
        "dash": b"-n\n",
        "escape": b"\\n\\033[31m\n",
        "quote": b'it\'s $(id) `id` "x"\n',
        "long": b"9" * 4000 + b"\n",
        "forged": b"v 3 abc\nf 4 /etc\nend\n",
    }
    (tmp_path / "f").mkdir()
    for name, data in contents.items():
        (tmp_path / "f" / name).write_bytes(data)
    for kind in ("line", "bytes"):
        files = view(tmp_path, [FileGroup("/f", tuple(contents), kind)], shell_command=shell)  # type: ignore[arg-type]
        local = FolderFiles(tmp_path)
        for name in contents:
            assert files.read(f"/f/{name}") == local.read(f"/f/{name}"), (kind, name)


@every_shell
def test_limits(tmp_path: Path, shell: tuple[str, ...]) -> None:
    (tmp_path / "f").mkdir()
    for number in range(8):
        (tmp_path / f"f/{number}").write_bytes(b"x\n" * 50_000)
    groups = [FileGroup("/f", tuple("01234567"), "bytes")]
    files = view(tmp_path, groups, shell_command=shell, limits=RemoteLimits(file_bytes=1000, total_bytes=3500))
    assert len(files.read("/f/0") or "") == 999
    assert "/f/0" in files.cut
    assert files.read("/f/7") is None
    assert files.reason("/f/7") == "not read: more than 3500 bytes in all"


def test_an_old_phones_short_command_lines(tmp_path: Path) -> None:
    root = plant(tmp_path, phone())
    lengths = []

    class Counting(LocalTransport):
        def run(self, argv: Sequence[str], **options: Any) -> CommandResult:
            lengths.append(len(shlex.join(argv)))
            return super().run(argv, **options)

    short = RemoteFiles(Counting(), root=str(root), limits=RemoteLimits(command_characters=2300))
    assert short.round_trips == len(lengths) > 1
    assert max(lengths) <= 2300
    whole = view(root)
    assert [short.read(path) for path in phone()] == [whole.read(path) for path in phone()]
    assert whole.round_trips == 1


@every_shell
def test_files_that_hang_are_left_out(tmp_path: Path, shell: tuple[str, ...]) -> None:
    plant(tmp_path, {"/a/x": "1", "/b/n": "2", "/c1/z": "3"})
    os.mkfifo(tmp_path / "a/y")
    files = view(tmp_path, TINY, shell_command=shell, limits=RemoteLimits(timeout_s=1.0))
    assert files.round_trips == 2
    assert [files.read(path) for path in ("/a/x", "/a/y", "/c1/z")] == ["1", None, "3"]
    assert files.reason("/a/y") == "no answer within 1 s"
    assert files.closed == {"/a/y": "no answer within 1 s"}


def test_many_files_that_hang_end_it(tmp_path: Path) -> None:
    plant(tmp_path, {"/a/x": "1", "/c1/z": "3"})
    os.mkfifo(tmp_path / "a/y")
    os.mkfifo(tmp_path / "a/gone")
    files = view(tmp_path, TINY, limits=RemoteLimits(timeout_s=0.7, hangs=1))
    assert files.round_trips == 2
    assert files.read("/a/x") == "1"
    assert files.reason("/a/gone") == "no answer within 0.7 s"
    assert files.reason("/c1/z").startswith("not read: 2 files")


def test_a_shell_that_hangs_or_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandTimeoutError):
        RemoteFiles(Silent(), TINY)
    with pytest.raises(CommandFailedError, match="reading the device's files failed"):
        view(tmp_path, shell_command=("no-such-shell",))
    with pytest.raises(DeviceError, match="its shell answered 'hello"):
        view(tmp_path, shell_command=("echo", "hello"))


class Silent(LocalTransport):
    def run(self, argv: Sequence[str], **options: Any) -> CommandResult:
        raise CommandTimeoutError("no answer")


def test_groups_are_checked() -> None:
    with pytest.raises(ValueError, match="not absolute"):
        FileGroup("proc", ("stat",))
    with pytest.raises(ValueError, match="in one line"):
        FileGroup("/proc", ("a,b",))
    with pytest.raises(ValueError, match="in one line"):
        FileGroup("/proc", ())


def test_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    script = resources.files("dfmobile.devices").joinpath("remote_files.sh").read_bytes()
    done = subprocess.run(["shellcheck", "-s", "sh", "-"], input=script, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()


# --- the format ---------------------------------------------------------------------------------------------------

WHOLE = (
    b"WARNING: linker: noise\ndfmobile-files 1\nf 4 /a/x\nv 3 abc\nf 2 /b\nn 1 p\nn 1 q\nf 4 /a/y\n"
    b"e 17 Permission denied\nf 4 /c/z\nx 0 \n0000000 61 00 0a\n0000003\nend\n"
)


def test_format() -> None:
    for data in (WHOLE, WHOLE.replace(b"\n", b"\r\n")):
        listing = parse_listing(data)
        assert listing.files == {"/a/x": b"abc", "/c/z": b"a\0\n"}
        assert listing.folders == {"/b": ["p", "q"]}
        assert listing.reasons == {"/a/y": "permission denied"}
        assert listing.ended


@pytest.mark.parametrize(
    ("what", "damaged"),
    [
        ("a length that is wrong", WHOLE.replace(b"v 3 abc", b"v 4 abc")),
        ("an answer without a question", WHOLE.replace(b"f 4 /a/x\n", b"")),
        ("a question without an answer", WHOLE.replace(b"v 3 abc\n", b"")),
        ("a path twice", WHOLE.replace(b"/a/y", b"/a/x")),
        ("no absolute path", WHOLE.replace(b"4 /a/x", b"3 a/x")),
        ("a hole in the bytes", WHOLE.replace(b"0000000 61", b"0000016 61")),
        ("a wrong total", WHOLE.replace(b"0000003", b"0000004")),
        ("control characters", WHOLE.replace(b"abc", b"a\x1bc")),
        ("text after the end", WHOLE + b"f 2 /q\n"),
        ("a folder's name in a name", WHOLE.replace(b"n 1 p", b"n 3 p/q")),
        ("no end", WHOLE.removesuffix(b"end\n")),
        ("cut in the bytes", WHOLE[:-9]),
        ("another format", WHOLE.replace(b"files 1", b"files 2")),
        ("nothing", b""),
    ],
)
def test_damage_is_one_clear_error(what: str, damaged: bytes) -> None:
    with pytest.raises(DeviceError, match="reading the device's files failed") as caught:
        parse_listing(damaged)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_part_of_the_output_is_used_up_to_where_it_is_sure() -> None:
    for length in range(len(WHOLE)):
        listing = parse_listing(WHOLE[:length], partial=True)
        assert set(listing.files.items()) <= {("/a/x", b"abc"), ("/c/z", b"a\0\n")}
        assert listing.reasons in ({}, {"/a/y": "permission denied"})
    assert parse_listing(WHOLE[:-16], partial=True).last_path == "/c/z"


@settings(max_examples=200)
@given(st.data())
def test_damaged_output_is_an_error_or_a_listing(data: st.DataObject) -> None:
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged)))
        length = data.draw(st.integers(0, 8))
        damaged[place : place + length] = data.draw(
            st.binary(max_size=8)
            | st.sampled_from([b"\n", b"end\n", b"f 2 /b\n", b"x 0 \n", b"0000000\n", b"n 1 z\n", b"s 0 \n"])
        )
    for partial in (False, True):
        try:
            listing = parse_listing(bytes(damaged), partial=partial)
        except DeviceError:
            continue
        for path in (*listing.files, *listing.folders, *listing.reasons):
            assert path.startswith("/")
            assert path.isprintable()


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_survived(data: bytes, partial: bool) -> None:
    try:
        parse_listing(b"dfmobile-files 1\n" + data, partial=partial)
        parse_listing(data, partial=partial)
    except DeviceError:
        pass
