"""Laws of what travels: quoting, checksums, and answers that are damaged in any way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from batch_far_sides import SHELLS, FarSide, script, settings_for, tool_folder, wait_for
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dfmobile.devices.batch import Batch, BatchDamagedError, BatchItem
from dfmobile.devices.batch.bundle import parse_poll, posix_cksum
from dfmobile.devices.batch.manifest import item_script
from dfmobile.devices.transport.base import CommandResult

# Any bytes but NUL, as they stand in an argument.
ARGUMENT = st.binary(max_size=60).map(lambda data: data.replace(b"\0", b"\xff").decode("utf-8", "surrogateescape"))
ECHO = "import os, sys; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    tools = tool_folder(request.param, tmp_path / "tools")
    return "/bin/sh" if tools is None else str(tools / "sh")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(ARGUMENT, min_size=1, max_size=6))
@example(
    words=["{item", "'", "''", '"', "\\", "\n", "$x", "`x`", "!", "-n", "\udc81\udc82\udc83\udc88", "%s", "~", "*"]
)
def test_arguments_of_any_bytes_arrive_as_they_are(shell: str, words: list[str]) -> None:
    item = BatchItem("one", (sys.executable, "-S", "-c", ECHO, *words))
    text = b"launch=\n" + item_script(item, "/base/runs/r")
    run = subprocess.run([shell, "-c", b". /dev/stdin"], input=text, capture_output=True, check=True)
    expected = [word.replace("{item}", "/base/runs/r/items/one").replace("{run}", "/base/runs/r") for word in words]
    assert run.stdout == b"\0".join(os.fsencode(word) for word in expected)


@given(data=st.binary(max_size=2000))
@example(data=b"")
@settings(max_examples=30, deadline=None)
def test_checksum_is_that_of_cksum(data: bytes) -> None:
    run = subprocess.run(["cksum"], input=data, capture_output=True, check=True)
    assert run.stdout.split()[:2] == [str(posix_cksum(data)).encode(), str(len(data)).encode()]


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real answer with two results."""
    folder = tmp_path_factory.mktemp("answer")
    far = FarSide()
    answers: list[bytes] = []

    def keep(argv: list[str], result: CommandResult) -> CommandResult:
        if argv[2:3] == ["poll"]:
            answers.append(result.stdout)
        return result

    def wait(argv: list[str]) -> None:
        if argv[2:3] == ["poll"] and not answers:  # one answer shall have both, however slow the machine is
            wait_for(lambda: len(list(folder.glob("far/runs/*/results/two.done"))) == 1)

    far.before, far.after = wait, keep
    items = [script("one", "echo first line; exit 3"), script("two", "echo second")]
    list(Batch(far, settings_for(folder, push_first=True, poll_s=2.0)).run(items))
    return answers[0]


def test_a_whole_answer_is_read(answer: bytes) -> None:
    poll = parse_poll(answer)
    assert [(result.id, result.exit_code, result.log) for result in poll.results] == [
        ("one", 3, b"first line\n"),
        ("two", 0, b"second\n"),
    ]
    assert poll.damaged == []


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_damage_is_noticed(answer: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(answer) - 1))
    length = data.draw(st.integers(0, 40))
    damaged = answer[:start] + data.draw(st.binary(max_size=40)) + answer[start + length :]
    whole = {result.id: result for result in parse_poll(answer).results}
    try:
        poll = parse_poll(damaged)
    except BatchDamagedError:
        return
    # What is given out is what the driver wrote.
    for result in poll.results:
        assert result == whole.get(result.id)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
@example(data=b"dfmobile-poll 1\ndone a 0123456789abcdef 0 9999999999 1 9999999 1 end\ndata\n\ndfmobile-end\n")
@example(data=b"dfmobile-poll 1\ndata\n\ndfmobile-end\n")
@example(data=b"dfmobile-poll 1\n\ndfmobile-end\n")
def test_noise_is_an_error_never_a_result(data: bytes) -> None:
    for text in (data, b"dfmobile-poll 1\n" + data + b"\ndfmobile-end\n", b"dfmobile-poll 1\n" + data):
        try:
            assert parse_poll(text).results == []
        except BatchDamagedError:
            continue
