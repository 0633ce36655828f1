"""What can go wrong with ssh, really provoked: one line each that tells it from the others, and what to do."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_boards import opened, runs, wait_for
from sshd.sshd_fixture import Sshd, running_sshd

from dfmobile.devices.transport import ssh as ssh_module
from dfmobile.devices.transport import ssh_client, ssh_command, ssh_script
from dfmobile.devices.transport.base import ConnectionLostError, UnauthorizedError
from dfmobile.devices.transport.ssh import SshTransport
from dfmobile.devices.transport.ssh_messages import HostKeyChangedError, HostKeyUnknownError, SshMessagesError
from dfmobile.devices.uri import parse_device
from dfmobile.errors import DeviceError, InputError

LIMIT_S = 60.0


def set_options(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Put options before ours: ssh takes the first of each. For times that are too long to wait for."""
    monkeypatch.setattr(ssh_client, "_OPTIONS", (*options, *ssh_client._OPTIONS))


def test_an_unknown_host_key(sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    with pytest.raises(HostKeyUnknownError, match="is not known here") as caught:
        opened(sshd)
    assert "compare the fingerprint" in caught.value.hint
    assert isinstance(caught.value.__cause__, SshMessagesError)
    assert "Host key verification failed" in str(caught.value.__cause__)
    assert sshd.known_hosts.read_text() == ""


def test_a_changed_host_key_is_a_hard_stop(sshd: Sshd) -> None:
    transport = opened(sshd)
    known = sshd.known_hosts.read_text()
    sshd.change_host_key()
    with pytest.raises(ConnectionLostError):
        transport.run(["true"], timeout_s=LIMIT_S)
    for connect in (lambda: opened(sshd), transport.reconnect):
        with pytest.raises(HostKeyChangedError, match="another host key than the one that is known") as caught:
            connect()
        hint = caught.value.hint
        assert hint.index("compare the key") < hint.index(f"ssh-keygen -R '[127.0.0.1]:{sshd.line.port}'")
    assert sshd.known_hosts.read_text() == known
    transport.close()


def test_a_user_who_checks_no_keys_is_not_followed(sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    loose = "StrictHostKeyChecking no\nNoHostAuthenticationForLocalhost yes\nUpdateHostKeys yes\n"
    sshd.config_file.write_text(loose + sshd.config_file.read_text() + f"  {loose}")
    with pytest.raises(HostKeyUnknownError):
        opened(sshd)
    assert sshd.known_hosts.read_text() == ""


def test_refused(sshd: Sshd) -> None:
    sshd.stop()
    with pytest.raises(DeviceError, match=f"nothing listens on port {sshd.port}") as caught:
        opened(sshd, f"ssh:{sshd.user}@127.0.0.1:{sshd.port}")
    assert "start sshd" in caught.value.hint


def test_no_answer(shared_sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    set_options(monkeypatch, "ConnectTimeout=1")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DeviceError, match="in time") as caught:
        opened(shared_sshd, f"ssh:me@127.0.0.1:{silent.getsockname()[1]}")
    assert "firewall" in caught.value.hint


def test_an_answer_that_never_comes_to_its_end(shared_sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_client, "_OPEN_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DeviceError, match="not answer in 1 s"):
        opened(shared_sshd, f"ssh:me@127.0.0.1:{silent.getsockname()[1]}")


def test_a_name_without_an_address(shared_sshd: Sshd) -> None:
    with pytest.raises(DeviceError, match=r"no address is known for the name 'no-such-board\.invalid'") as caught:
        opened(shared_sshd, "ssh:me@no-such-board.invalid")
    assert "spelling" in caught.value.hint


def test_a_key_that_is_not_accepted(sshd: Sshd) -> None:
    (sshd.folder / "authorized_keys").write_text("")
    with pytest.raises(UnauthorizedError, match=r"accepts none of our keys \(it takes: publickey\)") as caught:
        opened(sshd)
    assert f"ssh-copy-id -p {sshd.line.port} {sshd.user}@127.0.0.1" in caught.value.hint


def test_no_ssh(shared_sshd: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="no program ssh") as caught:
        opened(shared_sshd)
    assert "apt install openssh-client" in caught.value.hint


def test_a_configuration_that_is_not_one(shared_sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("NoSuchOption yes\n")
    with pytest.raises(InputError, match=r"configuration of ssh cannot be used: .*nosuchoption") as caught:
        SshTransport(parse_device(shared_sshd.uri), tmp_path / "config")
    assert "DFMOBILE_SSH_CONFIG" in caught.value.hint
    with pytest.raises(InputError, match="there is no ssh configuration"):
        SshTransport(parse_device(shared_sshd.uri), tmp_path / "absent")


def test_an_account_without_a_shell(tmp_path: Path) -> None:
    told = "has no shell that answers: This account is not available"
    with (
        running_sshd(tmp_path, settings="ForceCommand echo This account is not available.") as server,
        pytest.raises(DeviceError, match=told),
    ):
        opened(server)


def test_no_further_session(tmp_path: Path) -> None:
    with running_sshd(tmp_path, settings="MaxSessions 1") as server, opened(server) as transport:
        with pytest.raises(DeviceError, match="allows no further session") as caught:
            transport.run(["true"], timeout_s=LIMIT_S)
        assert "MaxSessions" in caught.value.hint


def test_noise_of_the_login_shell_is_not_output(tmp_path: Path) -> None:
    """As of a .bashrc that prints: here by a forced command that then does what was asked."""
    noisy = 'ForceCommand echo welcome; echo careful >&2; eval "$SSH_ORIGINAL_COMMAND"'
    with running_sshd(tmp_path, settings=noisy) as server, opened(server) as transport:
        result = transport.run(["sh", "-c", "echo out; echo err >&2; exit 255"], timeout_s=LIMIT_S)
        assert (result.exit_code, result.stdout, result.stderr) == (255, b"out\n", b"err\n")


def test_a_killed_command_and_a_killed_shell(sshd: Sshd) -> None:
    with opened(sshd) as transport:
        assert transport.run(["sh", "-c", "kill -KILL $$"], timeout_s=LIMIT_S).exit_code == 137
        with pytest.raises(DeviceError, match="the shell around sh was killed") as caught:
            transport.run(["sh", "-c", "kill -KILL $PPID; sleep 600"], timeout_s=LIMIT_S)
        assert not isinstance(caught.value, ConnectionLostError)
        wait_for(lambda: not runs(sshd, "sleep 600"))
        assert transport.run(["echo", "still"], timeout_s=LIMIT_S).text == "still"


def test_a_working_folder_that_is_not_there(shared_sshd: Sshd) -> None:
    with opened(shared_sshd) as transport, pytest.raises(DeviceError, match="in /no/where: there is no such folder"):
        transport.run(["true"], timeout_s=LIMIT_S, folder="/no/where")


def test_arguments_that_are_too_long(shared_sshd: Sshd) -> None:
    with opened(shared_sshd) as transport, pytest.raises(DeviceError, match="could not start echo") as caught:
        transport.run(["echo", "x" * (1 << 20)], timeout_s=LIMIT_S)
    assert "too long" in caught.value.hint


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"skipped: no small file system to fill: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk(full_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    (full_disk / "kept").write_bytes(b"older")
    with running_sshd(tmp_path, environment={"TMPDIR": str(full_disk)}) as server, opened(server) as transport:
        with pytest.raises(DeviceError, match=r"cannot write .* on the device: .*No space left on device") as caught:
            transport.push(tmp_path / "file", f"{full_disk}/kept")
        assert "free space on the board" in caught.value.hint
        assert [(entry.path, entry.size_bytes) for entry in transport.list_folder(str(full_disk))] == [("kept", 5)]
        assert transport.scratch_root == str(full_disk)
        with pytest.raises(DeviceError, match="its input cannot be written") as caught:
            transport.run(["cat"], timeout_s=LIMIT_S, stdin=bytes(1 << 20))
        assert "free space" in caught.value.hint
        assert os.listdir(full_disk) == ["kept"]


def test_other_refusals_of_the_disk(shared_sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with opened(shared_sshd) as transport, pytest.raises(DeviceError, match="cannot write /no/where/x") as caught:
        transport.push(tmp_path / "file", "/no/where/x")
    assert "its folder must be there" in caught.value.hint


def test_a_board_without_a_scratch_folder(tmp_path: Path) -> None:
    script = "for d in /tmp /var/tmp; do mount -t tmpfs -o ro none $d || exit 9; done; unset TMPDIR; exec sh -c"
    words = ["unshare", "-m", "sh", "-c", f'{script} "$1"', "sh", ssh_script.look_around("token")]
    result = subprocess.run(words, input=b"", capture_output=True, timeout=60, check=False)
    if result.returncode != 0:
        pytest.skip(f"skipped: file systems cannot be mounted here: {result.stderr.decode()}")
    far = ssh_script.read_around("token", result.stdout)
    assert far is not None
    assert (far.scratch, far.missing) == (None, ())


def test_a_scratch_folder_that_nobody_may_write(shared_sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    look_around = ssh_script.look_around
    monkeypatch.setattr(
        ssh_client,
        "look_around",
        lambda token: look_around(token).replace('"$TMPDIR" /tmp /var/tmp', "/proc/no /no/where"),
    )
    with opened(shared_sshd) as transport, pytest.raises(DeviceError, match="no folder for temporary files") as caught:
        transport.scratch_folder().__enter__()
    assert "df" in caught.value.hint


def test_a_board_without_the_tools(shared_sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_script, "_TOOLS", "cat nosuchtool")
    with pytest.raises(DeviceError, match="lacks programs that are needed there: nosuchtool"):
        opened(shared_sshd)


def test_a_line_that_falls_silent(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends find out, each by itself: no reset and no end of file ever comes."""
    set_options(monkeypatch, "ServerAliveInterval=1", "ServerAliveCountMax=1")
    monkeypatch.setattr(ssh_script, "SILENCE_S", 2)
    monkeypatch.setattr(ssh_command, "BEAT_S", 0.5)
    with opened(sshd) as transport:
        transport.run(["sleep", "3.5"], timeout_s=LIMIT_S)  # beats keep it alive for longer than the limit
        with pytest.raises(ConnectionLostError, match="the connection broke while sh ran"):
            transport.run(
                ["sh", "-c", "echo up; sleep 600"], timeout_s=LIMIT_S, on_output=lambda *_: sshd.line.silence()
            )
        wait_for(lambda: not runs(sshd, "sleep 600"))


def test_a_file_that_cannot_be_read_on_is_given_up(
    shared_sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection lives and our signs of life go through; the file does not move."""
    monkeypatch.setattr(ssh_module, "_IDLE_S", 1.0)
    monkeypatch.setattr(ssh_command, "BEAT_S", 0.2)
    os.mkfifo(tmp_path / "stuck")
    with opened(shared_sshd) as transport:
        with pytest.raises(ConnectionLostError, match="nothing has moved for 1 s"):
            transport._receive(str(tmp_path / "stuck"), tmp_path / "here", 100, None)
        wait_for(lambda: not runs(shared_sshd, "stuck"))
