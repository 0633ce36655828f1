"""Framing, streams and keys of the virtual phone; garbage neither crashes nor hangs it."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfmobile.errors import DeviceError, InputError
from dfmobile.testing.virtual_phone import VirtualPhone, packets
from dfmobile.testing.virtual_phone.authentication import parse_public_key
from dfmobile.testing.virtual_phone.packets import HEADER, Packet, PacketDecoder, PacketError
from dfmobile.testing.virtual_phone.shell_service import parse_destination

COMMANDS = [packets.CONNECT, packets.AUTHENTICATE, packets.OPEN, packets.READY, packets.WRITE, packets.CLOSE]
WORDS = st.integers(0, 2**32 - 1)
PACKETS = st.builds(Packet, st.sampled_from(COMMANDS), WORDS, WORDS, st.binary(max_size=300))


def decode(decoder: PacketDecoder, pieces: list[bytes]) -> list[Packet]:
    found = []
    for piece in pieces:
        decoder.feed(piece)
        while (packet := decoder.next_packet()) is not None:
            found.append(packet)
    return found


@given(st.lists(PACKETS, max_size=8), st.booleans(), st.data())
def test_packets_come_back_however_they_are_cut(sent: list[Packet], checksum: bool, data: st.DataObject) -> None:
    wire = b"".join(packet.encode(checksum=checksum) for packet in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert decode(PacketDecoder(4096, checksums=checksum), pieces) == sent


@given(st.binary(max_size=2000))
def test_garbage_is_refused_or_waits_for_more(garbage: bytes) -> None:
    decoder = PacketDecoder(1024, checksums=True)
    with suppress(PacketError):
        decode(decoder, [garbage])
    assert len(decoder._buffer) <= len(garbage)


@given(PACKETS.filter(lambda packet: bool(packet.data)), st.data())
def test_one_flipped_bit_of_the_data_is_found_by_the_checksum(packet: Packet, data: st.DataObject) -> None:
    wire = bytearray(packet.encode(checksum=True))
    wire[data.draw(st.integers(HEADER.size, len(wire) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(PacketError, match="damaged"):
        decode(PacketDecoder(4096, checksums=True), [bytes(wire)])


def test_a_packet_that_is_too_large_is_refused_before_it_comes() -> None:
    decoder = PacketDecoder(4096, checksums=False)
    decoder.feed(Packet(packets.WRITE, 1, 1, bytes(4097)).encode(checksum=False)[: HEADER.size])
    with pytest.raises(PacketError, match="4097 bytes, 4096 are allowed"):
        decoder.next_packet()


@given(st.text(max_size=200))
def test_keys_of_all_sorts(text: str) -> None:
    assert parse_public_key(text) is None


@pytest.mark.parametrize(
    ("destination", "old", "framed", "terminal", "command"),
    [
        ("shell:ls", False, False, "raw", "ls"),
        ("shell:ls", True, False, "cooked", "ls"),
        ("shell:", False, False, "cooked", ""),
        ("shell,v2,raw:a:b", False, True, "none", "a:b"),
        ("shell,v2,TERM=xterm,pty:ls", False, True, "cooked", "ls"),
        ("shell,v2:ls", False, True, "none", "ls"),
        ("exec:ls", True, False, "raw", "ls"),
    ],
)
def test_what_is_asked_of_the_shell(destination: str, old: bool, framed: bool, terminal: str, command: str) -> None:
    request = parse_destination(destination, old=old)
    assert request is not None
    assert (request.framed, request.terminal, request.command) == (framed, terminal, command)


@pytest.mark.parametrize(("destination", "old"), [("shell,v2,raw:ls", True), ("tcp:1", False), ("shell", False)])
def test_what_the_shell_does_not_offer(destination: str, old: bool) -> None:
    assert parse_destination(destination, old=old) is None


# The daemon itself


@pytest.fixture(scope="module")
def phones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, VirtualPhone]]:
    try:
        with (
            VirtualPhone(tmp_path_factory.mktemp("modern")) as modern,
            VirtualPhone(tmp_path_factory.mktemp("old"), mode="old") as old,
        ):
            yield {"modern": modern, "old": old}
    except DeviceError as error:
        pytest.skip(f"skipped: no virtual phone: {error}")


def talk(phone: VirtualPhone, wire: bytes) -> bytes:
    """Send bytes and no more; return all that comes back until the phone hangs up."""
    answer = b""
    with socket.create_connection(("127.0.0.1", phone.port), timeout=30) as client:
        try:
            client.sendall(wire)
            client.shutdown(socket.SHUT_WR)
            while data := client.recv(65536):
                answer += data
        except ConnectionError:
            pass
    return answer


def hello(phone: VirtualPhone) -> bytes:
    version = 0x01000000 if phone.settings.mode == "old" else 0x01000001
    return Packet(packets.CONNECT, version, 4096, b"host::\0").encode(checksum=True)


def still_works(phone: VirtualPhone) -> None:
    """A new client is served, and no thread died."""
    with socket.create_connection(("127.0.0.1", phone.port), timeout=30) as client:
        client.sendall(hello(phone))
        assert client.recv(4) == packets.CONNECT


FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("mode", ["modern", "old"])
@FUZZ
@given(st.binary(max_size=3000), st.booleans())
def test_garbage_on_the_wire(phones: dict[str, VirtualPhone], mode: str, garbage: bytes, greeted: bool) -> None:
    talk(phones[mode], (hello(phones[mode]) if greeted else b"") + garbage)
    still_works(phones[mode])


SERVICES = st.sampled_from(
    [b"sync:\0", b"shell:true\0", b"shell,v2,raw:cat\0", b"shell,v2,pty:cat\0", b"exec:cat", b"", b"\xff"]
)
SYNC = st.builds(
    lambda name, size, rest: name + struct.pack("<I", size) + rest,
    st.sampled_from(
        [b"STAT", b"STA2", b"LST2", b"LIST", b"LIS2", b"RECV", b"SEND", b"DATA", b"DONE", b"QUIT", b"ABCD"]
    ),
    st.one_of(st.integers(0, 30), WORDS),
    st.one_of(st.binary(max_size=40), st.sampled_from([b"/data/local/tmp/x,33188", b"/", b"/proc/cpuinfo", b"/a\0b"])),
)
FRAMES = st.builds(
    lambda number, size, rest: struct.pack("<BI", number, size) + rest,
    st.integers(0, 255),
    st.one_of(st.integers(0, 30), WORDS),
    st.binary(max_size=40),
)
DATA = st.one_of(st.binary(max_size=60), SYNC, FRAMES)


@pytest.mark.parametrize("mode", ["modern", "old"])
@FUZZ
@given(
    SERVICES,
    st.lists(
        st.tuples(
            st.sampled_from([*COMMANDS, packets.WRITE, packets.WRITE]), st.integers(0, 3), st.integers(0, 3), DATA
        ),
        max_size=12,
    ),
)
def test_nonsense_in_order(
    phones: dict[str, VirtualPhone], mode: str, service: bytes, rest: list[tuple[bytes, int, int, bytes]]
) -> None:
    phone = phones[mode]
    wire = hello(phone) + Packet(packets.OPEN, 1, 0, service).encode(checksum=True)
    wire += b"".join(Packet(*fields).encode(checksum=True) for fields in rest)
    talk(phone, wire)
    still_works(phone)


def test_after_all_that_nothing_is_left(phones: dict[str, VirtualPhone]) -> None:
    for phone in phones.values():
        deadline = threading.Event()
        for _ in range(300):
            if phone.connection_count == 0:
                break
            deadline.wait(0.1)
        assert phone.connection_count == 0


def test_a_client_that_never_waits_is_cut_off(phones: dict[str, VirtualPhone]) -> None:
    flood = b"".join(
        Packet(packets.WRITE, 1, number, b"x").encode(checksum=True) for number in range(1, 300) for _ in "12"
    )
    phone = phones["modern"]
    wire = hello(phone) + Packet(packets.OPEN, 1, 0, b"exec:sleep 5\0").encode(checksum=True) + flood
    talk(phone, wire)
    still_works(phone)


@pytest.mark.parametrize("name", ["../../../../etc/x", "a/../../../../../tmp/x"])
def test_nothing_is_written_outside_of_the_phone(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not a file of a virtual phone"):
        VirtualPhone(tmp_path, properties={name: "value"})


def test_a_tree_of_ones_own(start_phone: Callable[..., VirtualPhone], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sys/class/thermal/thermal_zone7").mkdir(parents=True)
    (tree / "sys/class/thermal/thermal_zone7/type").write_text("own\n")
    (tree / "proc").mkdir()
    (tree / "proc/cpuinfo").write_text("processor\t: 0\n")
    phone = start_phone(files=tree)
    assert phone.host_path("/proc/cpuinfo").read_text() == "processor\t: 0\n"
    assert os.listdir(phone.host_path("/sys/class/thermal")) == ["thermal_zone7"]
    (tree / "etc").mkdir()
    with pytest.raises(InputError, match="etc cannot be laid over a virtual phone"):
        VirtualPhone(tmp_path / "other", files=tree)


def test_a_phone_in_the_same_folder_keeps_its_data(start_phone: Callable[..., VirtualPhone], tmp_path: Path) -> None:
    first = start_phone()
    first.host_path("/data/local/tmp/kept").write_text("kept")
    first.stop()
    assert start_phone().host_path("/data/local/tmp/kept").read_text() == "kept"
