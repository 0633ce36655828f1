"""The scripts around commands, and what ssh is called with: pure, and in the shells that a board may have."""

from __future__ import annotations

import itertools
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.devices.transport.adb_script import MarkReader
from dfmobile.devices.transport.ssh_client import ssh_arguments
from dfmobile.devices.transport.ssh_messages import connection_error, last_line
from dfmobile.devices.transport.ssh_script import bootstrap, command_script, look_around, quoted, read_around
from dfmobile.devices.uri import parse_device
from dfmobile.errors import DeviceError, DfmobileError, InputError

TOKEN = "0123456789abcdef"  # noqa: S105
URI = parse_device("ssh:me@board")
words = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=6)


@given(words)
def test_quoting_is_undone_by_a_shell(argv: list[str]) -> None:
    assert shlex.split(quoted(argv)) == argv


@given(words, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_nothing_of_a_command_is_outside_of_quotes(argv: list[str], value: str) -> None:
    """As a shell's words, the script is the same for all commands but for the words of the command itself."""

    def split(arguments: list[str], text: str) -> list[str]:
        script = command_script(
            TOKEN,
            arguments,
            environment={"NAME": text},
            folder="/x",
            input_bytes=3,
            scratch="/tmp",  # noqa: S108
        )
        return shlex.split(script)

    mine, plain = split(argv, value), split(["true"], "")
    first = plain.index("true")
    assert mine[first : first + len(argv)] == argv
    assert mine[: first - 2] == plain[: first - 2]  # before the inner script, which holds the variable
    assert mine[first + len(argv) :] == plain[first + 1 :]
    assert shlex.split(mine[first - 2]) == [
        f"NAME={value}" if word == "NAME=" else word for word in shlex.split(plain[first - 2])
    ]


@pytest.mark.parametrize("shell", ["dash", "bash", "mksh", "zsh", "fish", "tcsh", "busybox"])
def test_every_login_shell_hands_on(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"skipped: no {shell}")
    script = command_script(
        TOKEN, ["sh", "-c", 'cat; echo "$1" >&2; exit 9', "sh", "it's `$x`!"],
        environment={}, folder=str(tmp_path), input_bytes=5, scratch=str(tmp_path),
    ).encode()  # fmt: skip
    command = [shell, *(["sh"] if shell == "busybox" else []), "-c", bootstrap(script)]
    # Its input stays open, as ssh keeps it: the end would stop the command.
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdin.write(script + b"in\0\xff\n...")
    child.stdin.flush()
    streams = []
    for output in (child.stdout, child.stderr):
        marks = MarkReader(TOKEN, one_stream=False)
        streams.append(b"".join(piece for _, piece in marks.feed(output.read())))
        output.close()
        assert marks.exit_code == 9
    child.stdin.close()
    assert child.wait(60) == 0
    assert streams == [b"in\0\xff\n", b"it's `$x`!\n"]
    assert list(tmp_path.iterdir()) == []


def test_input_that_comes_in_part_is_not_given_to_a_command(tmp_path: Path) -> None:
    script = command_script(
        TOKEN, ["cat"], environment={}, folder=None, input_bytes=100, scratch=str(tmp_path)
    ).encode()
    result = subprocess.run(["sh", "-c", bootstrap(script)], input=script + b"short", capture_output=True, timeout=60)
    assert (result.returncode, result.stdout) == (129, b"")
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=200))
def test_looking_around_takes_any_answer(noise: bytes) -> None:
    found = read_around(TOKEN, TOKEN.encode() + noise + TOKEN.encode() + b"\n")
    if found is not None:
        assert found.scratch is None or found.scratch.startswith("/")
    assert read_around(TOKEN, noise) is None


def test_looking_around(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    script = look_around(TOKEN)
    result = subprocess.run(["sh", "-c", script], input=b"", capture_output=True, env=environment, timeout=60)
    found = read_around(TOKEN, b"welcome\n" + result.stdout)
    assert found is not None
    assert (found.scratch, found.missing) == (str(tmp_path), ())
    assert read_around(TOKEN, result.stdout[:-5]) is None


@settings(max_examples=40)
@given(st.text())
def test_no_user_or_host_becomes_an_option(text: str) -> None:
    try:
        uri = parse_device(f"ssh:{text}")
    except InputError:
        return
    arguments = ssh_arguments(uri, None)
    assert arguments[-4:] == ["-l", uri.user, "--", uri.host]
    assert not str(uri.user).startswith("-")
    assert not str(uri.host).startswith("-")


def test_what_ssh_is_told() -> None:
    arguments = ssh_arguments(parse_device("ssh:me@[fe80::1%eth0]:2222"), None, "ControlMaster=no")
    told = [value for name, value in itertools.pairwise(arguments) if name == "-o"]
    assert told[0] == "ControlMaster=no"
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes"} <= set(told)
    assert arguments[-7:] == ["-p", "2222", "-T", "-l", "me", "--", "fe80::1%eth0"]
    assert "-p" not in ssh_arguments(URI, None)  # left to the user's configuration


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("No ED25519 host key is known for board and you have requested strict checking.\n"
         "Host key verification failed.", "host key of ssh:me@board:22 is not known"),
        ("@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@\nHost key verification failed.",
         "shows another host key"),
        ("@@@\n@       WARNING: REVOKED HOST KEY DETECTED!               @\n@@@", "shows another host key"),
        ("ssh: connect to host board port 22: Connection refused", "nothing listens"),
        ("ssh: connect to host board port 22: Connection timed out", "does not answer in time"),
        ("ssh: connect to host board port 22: No route to host", "cannot be reached: ssh: connect"),
        ("ssh: Could not resolve hostname board: Name or service not known", "no address is known"),
        ("me@board: Permission denied (publickey,password).", "(it takes: publickey,password)"),
        ("Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures", "accepts none of our keys"),
        ("Unable to negotiate with 1.2.3.4 port 22: no matching host key type found. Their offer: ssh-rsa",
         "no method in common"),
        ("kex_exchange_identification: read: Connection reset by peer", "ended the connection while it was made"),
        ("/home/me/.ssh/config: line 1: Bad configuration option: nosuch\n"
         "/home/me/.ssh/config: terminating, 1 bad configuration options", "line 1: Bad configuration option: nosuch"),
        ("something new", "cannot be reached: something new"),
        ("", "ssh says nothing"),
    ],
)  # fmt: skip
def test_messages(said: str, told: str) -> None:
    error = connection_error(URI, said)
    assert told in str(error)
    assert error.hint
    assert "\n" not in f"{error}{error.hint}"
    assert str(error.__cause__) == said.strip()


@given(st.text())
def test_any_message_is_one_line(said: str) -> None:
    error = connection_error(URI, said)
    assert isinstance(error, (DeviceError, DfmobileError))
    assert len(last_line(said)) <= 300
    assert last_line(said).isprintable()
