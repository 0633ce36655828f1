"""What comes over ADB's streams is taken apart the same however it was cut, and garbage never hangs."""

from __future__ import annotations

import contextlib
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.devices.transport.adb_script import MarkReader, ReturnRemover, read_around
from dfmobile.devices.transport.adb_shell_v2 import EXIT, STDERR, STDOUT, ShellV2Decoder, encode
from dfmobile.errors import DeviceError

TOKEN = "0123456789abcdef"  # noqa: S105
PACKETS = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)), max_size=12)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes at places, each modulo their length."""
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def joined(pairs: list[tuple[object, bytes]]) -> list[tuple[object, bytes]]:
    """Join neighbours of the same stream, without the empty."""
    found: list[tuple[object, bytes]] = []
    for kind, piece in pairs:
        if piece and found and found[-1][0] == kind:
            found[-1] = (kind, found[-1][1] + piece)
        elif piece:
            found.append((kind, piece))
    return found


@given(PACKETS, st.integers(0, 255), st.lists(st.integers(0, 10_000), max_size=30))
def test_frames_however_cut(packets: list[tuple[int, bytes]], code: int, places: list[int]) -> None:
    data = b"".join(encode(kind, content) for kind, content in packets) + encode(EXIT, bytes([code]))
    decoder = ShellV2Decoder()
    found = [pair for piece in cut(data, places) for pair in decoder.feed(piece)]
    assert joined(list(found)) == joined(list(packets))
    assert decoder.exit_code == code
    assert not decoder.in_packet


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
def test_garbage_is_refused_or_output(data: bytes, places: list[int]) -> None:
    decoder, brought = ShellV2Decoder(), 0
    with contextlib.suppress(DeviceError):
        for piece in cut(data, places):
            brought += sum(len(content) for _, content in decoder.feed(piece))
    assert brought <= len(data)


@pytest.mark.parametrize("header", [(9, 0), (1, 1 << 25), (EXIT, 0), (EXIT, 2)])
def test_impossible_packets(header: tuple[int, int]) -> None:
    with pytest.raises(DeviceError, match="not the shell protocol"):
        ShellV2Decoder().feed(struct.pack("<BI", *header))


def test_a_stream_that_ends_in_a_packet() -> None:
    decoder = ShellV2Decoder()
    decoder.feed(encode(STDOUT, b"abc")[:-1])
    assert decoder.in_packet
    assert decoder.exit_code is None


@given(st.binary(max_size=60), st.lists(st.integers(0, 100), max_size=20))
def test_a_terminals_line_feeds_are_undone_exactly(data: bytes, places: list[int]) -> None:
    remover = ReturnRemover()
    through_terminal = data.replace(b"\n", b"\r\n") + b"$"  # what follows decides about a carriage return at the end
    assert b"".join(remover.feed(piece) for piece in cut(through_terminal, places)) == data + b"$"


# Beginnings of the token are the hard part of the outputs.
TEXTS = st.lists(st.one_of(st.binary(max_size=10), st.integers(1, 15).map(lambda n: TOKEN[:n].encode())), max_size=6)


@given(TEXTS, TEXTS, st.integers(2, 99_999), st.integers(0, 255), st.booleans(), st.lists(st.integers(0, 500)))
def test_marks_however_cut(
    out: list[bytes], err: list[bytes], group: int, code: int, one_stream: bool, places: list[int]
) -> None:
    stdout, stderr = b"".join(out), b"".join(err)
    if TOKEN.encode() in stdout or TOKEN.encode() in stderr:
        return
    data = f"warning\n{TOKEN} p{group}\n".encode() + stdout + f"{TOKEN} e{code}\n".encode()
    if one_stream:
        data += stderr + f"{TOKEN} z0\n".encode()
    marks = MarkReader(TOKEN, one_stream=one_stream)
    found = [pair for piece in cut(data, places) for pair in marks.feed(piece)]
    expected = [("stdout", stdout), ("stderr", stderr if one_stream else b"")]
    assert joined(list(found)) == joined(list(expected))
    assert (marks.group, marks.exit_code, marks.finished) == (group, code, True)
    assert marks.prelude == b"warning\n"


def test_output_is_not_held_back() -> None:
    marks = MarkReader(TOKEN, one_stream=False)
    marks.feed(f"{TOKEN} p77\n".encode())
    assert marks.feed(b"one\n") == [("stdout", b"one\n")]
    assert marks.feed(b"01") == []  # may be the beginning of a mark
    assert marks.feed(b"x") == [("stdout", b"01x")]


@given(st.binary(max_size=80))
def test_damaged_marks(tail: bytes) -> None:
    marks = MarkReader(TOKEN, one_stream=True)
    with contextlib.suppress(DeviceError):
        found = marks.feed(TOKEN.encode() + tail + b"\n" * 100)
        assert sum(len(piece) for _, piece in found) <= len(tail) + 100


@given(st.binary(max_size=300))
def test_any_answer_about_the_shell(output: bytes) -> None:
    found = read_around(TOKEN, output)
    assert found is None or found.scratch is None or found.scratch.startswith("/")
