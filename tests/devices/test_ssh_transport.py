"""The ssh transport passes the contract of transports over a real sshd; and what is particular to it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ssh_boards import opened
from sshd.sshd_fixture import Sshd

from dfmobile.devices.device import open_device
from dfmobile.devices.transport import ssh_client
from dfmobile.devices.transport.base import ConnectionLostError, Transport
from dfmobile.devices.transport.ssh import SshTransport
from dfmobile.devices.uri import parse_device
from dfmobile.testing.transport_contract import TransportContract


@pytest.fixture(scope="module")
def connections() -> Iterator[list[SshTransport]]:
    """Those that the contract's tests made; the last is used by one after the other, as long as it is there."""
    made: list[SshTransport] = []
    yield made
    for transport in made:
        transport.close()


class TestSshTransport(TransportContract):
    small_commands = 8  # each is an ssh of its own

    @pytest.fixture
    def transport(self, shared_sshd: Sshd, connections: list[SshTransport]) -> Transport:
        if not connections or connections[-1].closed or connections[-1]._master is None:
            connections.append(opened(shared_sshd))
        return connections[-1]

    @pytest.mark.skipif(
        importlib.util.find_spec("dfmobile.devices.jetson") is None, reason="the probe of Linux boards is not here"
    )
    def test_probe_gives_a_profile(self, transport: Transport) -> None:
        super().test_probe_gives_a_profile(transport)


def test_the_users_configuration_holds(shared_sshd: Sshd, tmp_path: Path) -> None:
    """A name of the user's own with its port, reached by a jump host; the jump host's key is checked as well."""
    config = tmp_path / "config"
    config.write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {shared_sshd.port}\n  ProxyJump step\n"
        "  RemoteCommand echo not this\n  RequestTTY force\n  ControlMaster auto\n  ControlPath /nowhere/%h\n"
        f"Host step\n  HostName 127.0.0.1\n  Port {shared_sshd.line.port}\n  User {shared_sshd.user}\n"
        + shared_sshd.config_file.read_text()
    )
    before = shared_sshd.line.connections
    with SshTransport(parse_device(f"ssh:{shared_sshd.user}@board"), config) as transport:
        assert transport.run(["echo", "x"], timeout_s=60).text == "x"
    assert shared_sshd.line.connections == before + 1


def test_ipv6(shared_sshd: Sshd) -> None:
    with opened(shared_sshd, f"ssh:{shared_sshd.user}@[::1]:{shared_sshd.port}") as transport:
        assert transport.run(["echo", "x"], timeout_s=60).text == "x"


def test_the_configuration_of_the_environment(shared_sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFMOBILE_SSH_CONFIG", str(shared_sshd.config_file))
    with open_device(shared_sshd.uri) as device:
        assert device.transport.run(["echo", "x"], timeout_s=60).text == "x"
        assert device.transport.scratch_name == f"dfmobile-{os.getuid()}"
        properties = device.transport.properties()
    assert properties["kernel.name"] == os.uname().sysname
    assert properties["kernel.machine"] == os.uname().machine


def test_one_connection_for_all(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    with opened(sshd) as transport, transport.scratch_folder() as folder:
        transport.push(tmp_path / "file", f"{folder}/file")
        transport.pull(f"{folder}/file", tmp_path / "back")
    assert sshd.line.connections == 1
    assert sshd.wait_until_quiet() == {}


def test_nothing_is_left_here_either(sshd: Sshd) -> None:
    transport = opened(sshd)
    folder = control_folder(transport)
    assert folder.stat().st_mode & 0o777 == 0o700
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        transport.run(["true"], timeout_s=60)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    transport.close()
    assert not folder.exists()
    assert local_ssh(folder) == []


def test_without_the_control_socket_no_other_connection_is_made(sshd: Sshd) -> None:
    with opened(sshd) as transport:
        (control_folder(transport) / "s").unlink()
        with pytest.raises(ConnectionLostError, match="control socket of the connection is gone"):
            transport.run(["true"], timeout_s=60)
        assert sshd.line.connections == 1


def test_the_control_folder_is_short_and_what_killed_ones_left_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(tempfile.mkdtemp(prefix="dfmobile-run-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own))
    old, used, young = (own / f"dfmobile-ssh-{name}" for name in ("old", "used", "young"))
    for folder in (old, used, young):
        folder.mkdir()
    (used / "s").touch()
    for folder in (old, used):
        os.utime(folder, (1, 1))
    made = ssh_client._control_folder()
    assert sorted(own.iterdir()) == sorted([made, used, young])
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("x" * 100)))
    (tmp_path / ("x" * 100)).mkdir()
    elsewhere = ssh_client._control_folder()
    assert len(str(elsewhere)) < 80
    elsewhere.rmdir()
    shutil.rmtree(own)


def test_names_are_bytes(shared_sshd: Sshd) -> None:
    names = sorted(
        [".hidden", "..two", "-n", "new\nline", "*", "sp ace", "ü", b"\xff".decode("utf-8", "surrogateescape")]
    )
    with opened(shared_sshd) as transport, transport.scratch_folder() as folder:
        assert transport.list_folder(folder) == []
        transport.run(["sh", "-c", 'for f; do : > "./$f"; done', "sh", *names], timeout_s=60, folder=folder)
        assert [entry.path for entry in transport.list_folder(folder)] == names
        transport.run(["sh", "-c", 'for i in $(seq 1000); do : > "$i"; done'], timeout_s=60, folder=folder)
        assert len(transport.list_folder(folder)) == 1000 + len(names)


@settings(max_examples=8)
@given(
    argv=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4),
    data=st.binary(max_size=200),
    value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
)
def test_arguments_input_and_variables_arrive_as_they_are(
    quoting_transport: SshTransport, argv: list[str], data: bytes, value: str
) -> None:
    show = 'printf "%s\\0" "$DFMOBILE_TEST" "$@"; cat'
    result = quoting_transport.run(
        ["sh", "-c", show, "sh", *argv], timeout_s=60, stdin=data, environment={"DFMOBILE_TEST": value}
    )
    assert result.stdout == b"".join(text.encode() + b"\0" for text in [value, *argv]) + data


@pytest.fixture(scope="module")
def quoting_transport(shared_sshd: Sshd) -> Iterator[SshTransport]:
    with opened(shared_sshd) as transport:
        yield transport


def control_folder(transport: SshTransport) -> Path:
    """The folder of the control socket, by what ssh was called with."""
    lines = [line for line in local_ssh(Path("dfmobile-ssh-")) if f" {transport.uri.port} " in line]
    found = {part for line in lines for part in re.findall(r'ControlPath="([^"]+)/s"', line)}
    assert len(found) == 1
    return Path(found.pop())


def local_ssh(word: Path) -> list[str]:
    """Command lines on this machine that name a control folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if line.startswith("ssh ") and str(word) in line:
                    found.append(line)
    return found
