"""The ADB protocol against daemons that misbehave: each is one clear error, at once, and nothing hangs."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adbd.adbd_fixture import Adbd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("adb_shell", reason="adb-shell is not installed (dfmobile[adb])")

from adb_shell.adb_device import AdbDevice
from adb_shell.exceptions import AdbTimeoutError

from dfmobile.devices.transport.adb_keys import AdbKey
from dfmobile.devices.transport.adb_tcp_pipe import TcpPipe
from dfmobile.devices.transport.adb_wire import WireLink
from dfmobile.devices.transport.base import ConnectionLostError
from dfmobile.errors import DeviceError

Talk = Callable[[socket.socket], None]
GREETING = b"device::features=shell_v2"


def message(command: bytes, first: int = 0, second: int = 0, data: bytes = b"", *, total: int | None = None) -> bytes:
    number = struct.unpack("<I", command)[0]
    total = sum(data) if total is None else total
    return struct.pack("<6I", number, first, second, len(data), total, number ^ 0xFFFFFFFF) + data


def take(connection: socket.socket) -> tuple[bytes, int, int, bytes]:
    header = connection.recv(24, socket.MSG_WAITALL)
    if len(header) < 24:
        raise ConnectionError
    command, first, second, length, _, _ = struct.unpack("<6I", header)
    return struct.pack("<I", command), first, second, connection.recv(length, socket.MSG_WAITALL) if length else b""


@contextlib.contextmanager
def daemon(talk: Talk, family: socket.AddressFamily = socket.AF_INET) -> Iterator[TcpPipe]:
    """Let a function be the daemon of one connection."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=family) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(30)
                    talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        pipe = TcpPipe(host, listener.getsockname()[1])
        try:
            yield pipe
        finally:
            pipe.close()
            socket.create_connection(listener.getsockname()[:2], timeout=30).close()  # where nobody had connected
            thread.join(60)
            assert not thread.is_alive()


def no_key() -> AdbKey:
    pytest.fail("asked for a key")


def link(pipe: TcpPipe, connect_s: float = 5.0) -> WireLink:
    return WireLink(pipe, no_key, "adb+tcp:here:1", connect_s=connect_s)


def greet(connection: socket.socket, banner: bytes = GREETING, most: int = 4096) -> None:
    assert take(connection)[0] == b"CNXN"
    connection.sendall(message(b"CNXN", 0x01000001, most, banner))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "went away: the other side closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "not the ADB protocol"),
        (message(b"CNXN", 1, 4096, b"recovery::x"), "is not ready: 'recovery'"),
        (message(b"CNXN", 1, 4096, b"sideload::"), "is not ready: 'sideload'"),
        (message(b"CNXN", 1, 0, GREETING), "only 0 bytes"),
        (message(b"CNXN", 1, 4096, GREETING, total=7), "arrived damaged"),
        (message(b"STLS", 0x01000000), "wants an encrypted connection"),
        (message(b"AUTH", 1, 0, b"short"), "a signature of 5 bytes"),
        (struct.pack("<6I", 0x4E584E43, 0, 0, 1 << 31, 0, 0x4E584E43 ^ 0xFFFFFFFF), "not the ADB protocol"),
    ],
)
def test_beginnings_that_fail(answer: bytes, words: str) -> None:
    def talk(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(answer)

    started = time.monotonic()
    with daemon(talk) as pipe, pytest.raises(DeviceError, match=words) as caught:
        link(pipe, connect_s=30)
    assert "adb+tcp:here:1" in str(caught.value)
    assert time.monotonic() - started < 20  # not the time allowed for an answer


@given(st.binary(max_size=120))
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_garbage_ends_in_an_error(garbage: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        greet(connection)
        connection.sendall(garbage)

    with daemon(talk) as pipe, pytest.raises(DeviceError):
        link(pipe).open_stream(b"shell:x", time.monotonic() + 5)


def test_silence_is_not_waited_for() -> None:
    done = threading.Event()
    with daemon(lambda _: done.wait(20) and None) as pipe:
        with pytest.raises(DeviceError, match="does not answer"):
            link(pipe, connect_s=0.2)
        done.set()


def test_a_refused_service() -> None:
    def talk(connection: socket.socket) -> None:
        greet(connection)
        _, local, _, service = take(connection)
        assert service == b"nonsense:\0"
        connection.sendall(message(b"CLSE", 0, local))

    with daemon(talk) as pipe, pytest.raises(DeviceError, match="refuses the service 'nonsense:'"):
        link(pipe).open_stream(b"nonsense:", time.monotonic() + 5)


def test_a_message_in_pieces_across_timeouts() -> None:
    ready = threading.Event()

    def talk(connection: socket.socket) -> None:
        greet(connection)
        _, local, _, _ = take(connection)
        connection.sendall(message(b"OKAY", 9, local))
        data = message(b"WRTE", 9, local, b"hello")
        connection.sendall(data[:26])  # the header and two bytes
        ready.wait(30)
        connection.sendall(data[26:])
        assert take(connection)[:3] == (b"OKAY", local, 9)
        connection.sendall(message(b"CLSE", 9, local))
        assert take(connection)[:3] == (b"CLSE", local, 9)

    with daemon(talk) as pipe:
        opened = link(pipe)
        stream = opened.open_stream(b"shell:x", time.monotonic() + 5)
        assert not stream.wait(time.monotonic() + 0.1, to_send=False)
        ready.set()
        assert stream.wait(time.monotonic() + 20, to_send=False)
        assert stream.receive() == b"hello"
        assert stream.wait(time.monotonic() + 20, to_send=False)
        assert stream.receive() == b""
        stream.close()


def test_two_streams_at_once() -> None:
    def talk(connection: socket.socket) -> None:
        greet(connection)
        _, one, _, _ = take(connection)
        connection.sendall(message(b"OKAY", 11, one))
        _, two, _, _ = take(connection)
        connection.sendall(message(b"WRTE", 11, one, b"for one") + message(b"OKAY", 12, two))
        connection.sendall(message(b"WRTE", 12, two, b"for two") + message(b"CLSE", 99, 77))
        take(connection)
        take(connection)

    with daemon(talk) as pipe:
        opened = link(pipe)
        one = opened.open_stream(b"one:", time.monotonic() + 5)
        two = opened.open_stream(b"two:", time.monotonic() + 5)
        assert two.wait(time.monotonic() + 20, to_send=False)
        assert (two.receive(), one.receive()) == (b"for two", b"for one")


@pytest.mark.parametrize("unasked", [message(b"CNXN", 1, 4096, GREETING), message(b"AUTH", 1, 0, bytes(20))])
def test_a_daemon_that_restarts(unasked: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        greet(connection)
        take(connection)
        connection.sendall(unasked)

    with daemon(talk) as pipe:
        opened = link(pipe)
        for _ in range(2):  # and it stays lost
            with pytest.raises(ConnectionLostError, match="began a new connection by itself"):
                opened.open_stream(b"shell:x", time.monotonic() + 5)


def test_a_flood_is_refused() -> None:
    def talk(connection: socket.socket) -> None:
        greet(connection)
        _, local, _, _ = take(connection)
        connection.sendall(message(b"OKAY", 9, local) + message(b"WRTE", 9, local, b"x" * 100) * 1000)

    with daemon(talk) as pipe:
        opened = link(pipe)
        stream = opened.open_stream(b"shell:x", time.monotonic() + 5)
        assert opened.pump(time.monotonic() + 5)
        assert stream.readable
        with pytest.raises(ConnectionLostError, match="more than was asked for"):
            opened.pump(time.monotonic() + 5)


# The pipe


def test_small_messages_are_sent_at_once_and_over_ipv6() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(1)

    try:
        with daemon(talk, socket.AF_INET6) as pipe:
            pipe.connect(5)
            opened = pipe._opened(1)
            assert opened.family == socket.AF_INET6
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert pipe.bulk_write(b"x", 5) == 1
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


def test_all_is_sent_even_to_a_slow_reader() -> None:
    received = bytearray()

    def talk(connection: socket.socket) -> None:
        while data := connection.recv(10_000):
            received.extend(data)
            time.sleep(0.0005)

    content = bytes(range(256)) * 8192
    with daemon(talk) as pipe:
        pipe.connect(5)
        assert pipe.bulk_write(content, 60) == len(content)
    assert received == content


def test_a_reader_that_stops_is_a_timeout() -> None:
    done = threading.Event()
    with daemon(lambda _: done.wait(30) and None) as pipe:
        try:
            pipe.connect(5)
            with pytest.raises(AdbTimeoutError):
                pipe.bulk_write(bytes(1 << 26), 0.2)
            with pytest.raises(AdbTimeoutError):
                pipe.bulk_read(1, 0.05)
        finally:
            done.set()


def test_a_closed_peer_is_an_error_at_once() -> None:
    with daemon(lambda _: None) as pipe:
        pipe.connect(5)
        with pytest.raises(ConnectionResetError):
            pipe.bulk_read(1, 30)
        pipe.close()
        with pytest.raises(ConnectionResetError):
            pipe.bulk_write(b"x", 30)


def test_the_library_can_use_our_pipe(adbd: Adbd, tmp_path: Path) -> None:
    device = AdbDevice(TcpPipe("127.0.0.1", adbd.port), default_transport_timeout_s=30)
    try:
        assert device.connect(read_timeout_s=30)
        assert device.shell("echo library") == "library\n"
        assert device.shell("head -c 3000000 /dev/zero | wc -c").strip() == "3000000"
    finally:
        device.close()
