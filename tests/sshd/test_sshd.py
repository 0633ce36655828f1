"""The real sshd that other tests use is what it says: loopback only, one key, cut where asked, nothing left."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from sshd.sshd_fixture import Sshd


def ssh(server: Sshd, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    strict = ["-oBatchMode=yes", "-oStrictHostKeyChecking=yes", *options]
    config = () if "-F" in options else ("-F", str(server.config_file))
    return ["ssh", *config, *strict, "-p", str(server.line.port), "127.0.0.1", *command]


def run(server: Sshd, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = ssh(server, *command, options=options)
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_it_runs_commands_for_the_key_it_was_given(shared_sshd: Sshd) -> None:
    assert run(shared_sshd, "echo hello").stdout == "hello\n"


def test_another_key_does_not_open_it(shared_sshd: Sshd, tmp_path: Path) -> None:
    key, config = tmp_path / "key", tmp_path / "config"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=60)
    config.write_text(shared_sshd.config_file.read_text().replace(str(shared_sshd.folder / "user_key"), str(key)))
    refused = run(shared_sshd, "echo hello", options=("-F", str(config)))
    assert (refused.returncode, refused.stdout) == (255, "")
    assert "Permission denied (publickey)" in refused.stderr


def test_it_listens_on_loopback_only(shared_sshd: Sshd) -> None:
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == "0A" and int(port, 16) in (shared_sshd.port, shared_sshd.line.port):
                found.append(address)
    assert found
    assert set(found) <= {"0100007F", "00000000000000000000000001000000"}


def test_a_cut_ends_the_client_and_the_next_one_gets_through(sshd: Sshd) -> None:
    child = subprocess.Popen(ssh(sshd, "echo up; sleep 60"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    assert any("sleep 60" in command for command in sshd.processes().values())
    sshd.drop_connections()
    child.communicate(timeout=30)
    assert child.returncode == 255
    assert run(sshd, "echo again").stdout == "again\n"


def test_killing_it_kills_all_that_it_ran(sshd: Sshd) -> None:
    assert run(sshd, "setsid sleep 600 >/dev/null 2>&1 </dev/null &").returncode == 0
    deadline = time.monotonic() + 30
    while not sshd.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    sshd.stop()
    assert sshd.processes()  # it has a session of its own
    assert run(sshd, "true").returncode == 255
    sshd.kill()
    assert sshd.processes() == {}
    sshd.start()
    assert run(sshd, "echo again").stdout == "again\n"


def test_another_host_key_is_refused_until_it_is_trusted(sshd: Sshd) -> None:
    sshd.change_host_key()
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in run(sshd, "true").stderr
    sshd.trust()
    assert run(sshd, "true").returncode == 0
