"""Contract suite of transports: the same tests for every way to reach a device.

Inherit ``TransportContract`` in a test module and give a ``transport`` fixture that yields an open transport:

    class TestMyTransport(TransportContract):
        @pytest.fixture
        def transport(self): ...

The far side needs a POSIX ``sh``, ``sleep``, ``cat``, ``kill`` and, where the transport does not bring its own,
``sha256sum``, ``mv``, ``rm`` and ``mkdir``; toybox has them all. Times are generous: a slow far side passes.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfmobile.devices.profile_schema import DeviceProfile
from dfmobile.devices.transport.base import CommandFailedError, CommandTimeoutError, DeviceListing, Transport
from dfmobile.devices.uri import parse_device
from dfmobile.errors import DeviceError, DfmobileError, InputError, StorageError

LIMIT_S = 60.0
BIG_BYTES = 3 * 2**20 + 17  # several chunks of every protocol, and no multiple of any


class TransportContract:
    """What every transport does.

    Attributes:
        small_commands: how many of them are run one after the other.
    """

    small_commands: int = 50

    @pytest.fixture
    def transport(self) -> Iterator[Transport]:
        """Yield an open transport; subclasses give it."""
        raise NotImplementedError("give a fixture 'transport'")

    @pytest.fixture
    def folder(self, transport: Transport) -> Iterator[str]:
        """A folder on the device that goes away with the test."""
        with transport.scratch_folder() as path:
            yield path

    def shell(self, transport: Transport, script: str, timeout_s: float = LIMIT_S) -> tuple[int, bytes, bytes]:
        """Run a script; return exit code, stdout and stderr."""
        result = transport.run(["sh", "-c", script], timeout_s=timeout_s)
        return result.exit_code, result.stdout, result.stderr

    # Commands

    def test_output_comes_apart_and_as_bytes(self, transport: Transport) -> None:
        assert self.shell(transport, r"printf 'out\000\377\r\n'; printf err >&2") == (0, b"out\x00\xff\r\n", b"err")

    @pytest.mark.parametrize("code", [0, 1, 7, 126, 127, 255])
    def test_exit_code_is_the_commands_own(self, transport: Transport, code: int) -> None:
        assert self.shell(transport, f"exit {code}")[0] == code

    @pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("SEGV", 139), ("TERM", 143)])
    def test_a_signal_is_128_and_its_number(self, transport: Transport, name: str, code: int) -> None:
        assert self.shell(transport, f"kill -{name} $$; sleep 30")[0] == code

    def test_missing_program_is_127(self, transport: Transport) -> None:
        result = transport.run(["/no/such/program"], timeout_s=LIMIT_S)
        assert result.exit_code == 127
        assert result.stderr

    def test_arguments_arrive_as_they_are(self, transport: Transport) -> None:
        arguments = ["a b", "", "'\"", "$HOME `id` $(id)", "*", "-n", "\\", "ü\n;&|<>#~!", "\ttab"]
        result = transport.run(["sh", "-c", 'for a; do printf "%s\\0" "$a"; done', "sh", *arguments], timeout_s=LIMIT_S)
        assert result.stdout.split(b"\0")[:-1] == [argument.encode() for argument in arguments]

    def test_input_environment_and_folder(self, transport: Transport, folder: str) -> None:
        result = transport.run(
            ["sh", "-c", 'cat; printf "|%s|" "$DFMOBILE_TEST"; pwd'],
            timeout_s=LIMIT_S,
            stdin=b"in\x00put",
            environment={"DFMOBILE_TEST": "it's $1"},
            folder=folder,
        )
        assert result.stdout.startswith(b"in\x00put|it's $1|/")
        assert result.stdout.rstrip().endswith(folder.rpartition("/")[2].encode())

    def test_a_command_that_does_not_read_its_input(self, transport: Transport) -> None:
        assert transport.run(["sh", "-c", "exit 3"], timeout_s=LIMIT_S, stdin=bytes(1 << 20)).exit_code == 3

    def test_large_output_and_input_do_not_block_each_other(self, transport: Transport) -> None:
        data = bytes(range(256)) * 2048
        assert transport.run(["cat"], timeout_s=LIMIT_S, stdin=data).stdout == data

    def test_output_is_seen_as_it_comes(self, transport: Transport) -> None:
        seen: list[tuple[str, bytes, float]] = []
        result = transport.run(
            ["sh", "-c", "echo one; sleep 1; echo two >&2"],
            timeout_s=LIMIT_S,
            on_output=lambda stream, data: seen.append((stream, data, time.monotonic())),
        )
        ended = time.monotonic()
        assert b"".join(data for stream, data, _ in seen if stream == "stdout") == result.stdout == b"one\n"
        assert b"".join(data for stream, data, _ in seen if stream == "stderr") == result.stderr == b"two\n"
        assert ended - seen[0][2] > 0.5  # the first line was seen before the second was written

    def test_timeout_stops_the_command_and_its_children(self, transport: Transport, folder: str) -> None:
        # Children in two ways; a heartbeat shows whether one still lives.
        beat = f"while :; do echo beat >> {folder}/heartbeat; sleep 0.1; done"
        script = f"echo before; ({beat}) & sh -c '{beat}; :' & sleep 600"
        with pytest.raises(CommandTimeoutError) as caught:
            transport.run(["sh", "-c", script], timeout_s=2)
        assert caught.value.stdout == b"before\n"
        assert caught.value.hint
        self.assert_quiet(transport, f"{folder}/heartbeat")

    def test_nothing_is_left_running_after_the_command(self, transport: Transport, folder: str) -> None:
        script = f"while :; do echo beat >> {folder}/heartbeat; sleep 0.1; done & sleep 0.5; echo done"
        assert self.shell(transport, script)[:2] == (0, b"done\n")
        self.assert_quiet(transport, f"{folder}/heartbeat")

    def assert_quiet(self, transport: Transport, path: str) -> None:
        """Check that a heartbeat that was there has stopped."""
        first = transport.read_bytes(path)
        time.sleep(0.7)
        assert first
        assert transport.read_bytes(path) == first

    def test_an_exception_of_the_listener_stops_the_command(self, transport: Transport, folder: str) -> None:
        def refuse(stream: str, data: bytes) -> None:
            raise KeyError("enough")

        script = f"while :; do echo beat >> {folder}/heartbeat; echo beat; sleep 0.1; done"
        with pytest.raises(KeyError, match="enough"):
            transport.run(["sh", "-c", script], timeout_s=LIMIT_S, on_output=refuse)
        self.assert_quiet(transport, f"{folder}/heartbeat")

    def test_too_much_output_is_refused(self, transport: Transport) -> None:
        with pytest.raises(DeviceError):
            transport.run(
                ["sh", "-c", "while :; do echo 0123456789; done"], timeout_s=LIMIT_S, output_limit_bytes=10_000
            )

    def test_many_small_commands(self, transport: Transport) -> None:
        for number in range(self.small_commands):
            assert transport.run(["echo", str(number)], timeout_s=LIMIT_S).text == str(number)

    def test_a_failure_that_matters_is_one_line(self, transport: Transport) -> None:
        result = transport.run(["sh", "-c", "echo first; echo broken pipe dream >&2; exit 9"], timeout_s=LIMIT_S)
        with pytest.raises(CommandFailedError, match="testing failed: sh ended with 9: broken pipe dream") as caught:
            result.check("testing", hint="do not worry")
        assert caught.value.result is result
        assert caught.value.hint == "do not worry"

    @pytest.mark.parametrize("argv", [[], ["echo", "a\0b"]])
    def test_impossible_commands(self, transport: Transport, argv: list[str]) -> None:
        with pytest.raises(InputError):
            transport.run(argv, timeout_s=LIMIT_S)

    # Files

    @pytest.mark.parametrize("size", [0, 1, BIG_BYTES])
    def test_push_and_pull_are_exact(self, transport: Transport, folder: str, tmp_path: Path, size: int) -> None:
        content = (b"0123456789abcdef\r\n\x00\xff" * (size // 20 + 1))[:size]
        (tmp_path / "out").write_bytes(content)
        progress: list[tuple[int, int]] = []
        sent = transport.push(
            tmp_path / "out", f"{folder}/there", on_progress=lambda done, total: progress.append((done, total))
        )
        received = transport.pull(f"{folder}/there", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
        assert (sent.size_bytes, sent.sha256) == (size, hashlib.sha256(content).hexdigest())
        assert (received.size_bytes, received.sha256) == (sent.size_bytes, sent.sha256)
        if size > 2**20:
            assert progress[-1] == (size, size)
            assert progress == sorted(progress)

    def test_push_replaces_and_leaves_no_other_file(self, transport: Transport, folder: str, tmp_path: Path) -> None:
        for text in ("first", "second"):
            (tmp_path / "file").write_text(text)
            transport.push(tmp_path / "file", f"{folder}/a name with spaces")
        assert transport.read_bytes(f"{folder}/a name with spaces") == b"second"
        assert [entry.path for entry in transport.list_folder(folder)] == ["a name with spaces"]

    def test_a_pushed_program_runs(self, transport: Transport, folder: str, tmp_path: Path) -> None:
        (tmp_path / "program").write_text("echo ran: $1\n")
        transport.push(tmp_path / "program", f"{folder}/program", mode=0o755)
        stat = transport.stat(f"{folder}/program")
        assert stat is not None
        assert stat.mode & 0o777 == 0o755
        assert transport.run(["sh", f"{folder}/program", "x"], timeout_s=LIMIT_S).text == "ran: x"

    def test_failed_push_leaves_the_target(self, transport: Transport, folder: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("content")
        with pytest.raises(DfmobileError):
            transport.push(tmp_path / "file", f"{folder}/missing/there")
        with pytest.raises(StorageError):
            transport.push(tmp_path / "absent", f"{folder}/there")
        transport.make_folder(f"{folder}/taken")
        with pytest.raises(DeviceError):
            transport.push(tmp_path / "file", f"{folder}/taken")
        assert [entry.path for entry in transport.list_folder(folder)] == ["taken"]
        assert transport.list_folder(f"{folder}/taken") == []

    def test_failed_pull_leaves_the_local_file(self, transport: Transport, folder: str, tmp_path: Path) -> None:
        target = tmp_path / "kept"
        target.write_text("older")
        with pytest.raises(DeviceError):
            transport.pull(f"{folder}/absent", target)
        with pytest.raises(DeviceError):
            transport.pull(folder, target)
        (tmp_path / "large").write_bytes(bytes(1001))
        transport.push(tmp_path / "large", f"{folder}/large")
        (tmp_path / "large").unlink()
        with pytest.raises(DeviceError, match="1001 bytes, more than the 1000"):
            transport.pull(f"{folder}/large", target, limit_bytes=1000)
        assert target.read_text() == "older"
        assert [path.name for path in tmp_path.iterdir()] == ["kept"]

    def test_stat_and_list(self, transport: Transport, folder: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(bytes(1234))
        transport.push(tmp_path / "file", f"{folder}/b")
        transport.make_folder(f"{folder}/a/deep")
        transport.make_folder(f"{folder}/a/deep")
        self.shell(transport, f"ln -s {folder}/b {folder}/c")
        stat = transport.stat(f"{folder}/b")
        assert stat is not None
        assert (stat.kind, stat.size_bytes) == ("file", 1234)
        assert stat.modified_s > 0
        linked = transport.stat(f"{folder}/c")
        assert linked is not None
        assert (linked.kind, linked.size_bytes) == ("file", 1234)
        found = transport.stat(f"{folder}/a")
        assert found is not None
        assert found.kind == "folder"
        assert transport.stat(f"{folder}/nothing") is None
        assert transport.stat(f"{folder}/b/below a file") is None
        assert [(entry.path, entry.kind) for entry in transport.list_folder(folder)] == [
            ("a", "folder"),
            ("b", "file"),
            ("c", "other"),
        ]
        for path in (f"{folder}/nothing", f"{folder}/b"):
            with pytest.raises(DeviceError):
                transport.list_folder(path)

    def test_remove(self, transport: Transport, folder: str) -> None:
        transport.make_folder(f"{folder}/a/b")
        transport.remove(f"{folder}/a")
        transport.remove(f"{folder}/a")
        assert transport.stat(f"{folder}/a") is None

    def test_kernel_files_are_read_whole(self, transport: Transport) -> None:
        assert transport.read_bytes("/proc/meminfo").startswith(b"MemTotal:")
        with pytest.raises(DeviceError):
            transport.read_bytes("/proc/meminfo", limit_bytes=10)
        with pytest.raises(DeviceError):
            transport.read_bytes("/proc/no-such-file")

    def test_scratch_folder_goes_away(self, transport: Transport) -> None:
        with contextlib.suppress(ZeroDivisionError), transport.scratch_folder() as path:
            self.shell(transport, f"echo x > {path}/file")
            raise ZeroDivisionError
        assert transport.stat(path) is None

    # Identity

    def test_properties_are_text(self, transport: Transport) -> None:
        properties = transport.properties()
        assert properties
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in properties.items())

    def test_probe_gives_a_profile(self, transport: Transport) -> None:
        profile = transport.probe()
        assert isinstance(profile, DeviceProfile)
        assert profile.core_count > 0

    def test_uri_is_canonical(self, transport: Transport) -> None:
        assert parse_device(transport.uri.text) == transport.uri
        assert transport.uri.scheme == transport.scheme

    def test_enumerate_gives_listings(self, transport: Transport) -> None:
        for listing in type(transport).enumerate():
            assert isinstance(listing, DeviceListing)
            assert parse_device(listing.uri).text == listing.uri

    def test_closed_is_closed(self, transport: Transport) -> None:
        transport.close()
        transport.close()
        with pytest.raises(DeviceError):
            transport.run(["echo"], timeout_s=LIMIT_S)
        with pytest.raises(DeviceError):
            transport.stat("/")
