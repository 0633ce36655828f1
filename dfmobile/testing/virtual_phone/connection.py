"""One connection to a virtual phone: handshake, authentication, streams. What a client sends is untrusted."""

from __future__ import annotations

import contextlib
import itertools
import queue
import secrets
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from dfmobile.testing.virtual_phone import packets
from dfmobile.testing.virtual_phone.authentication import TOKEN_BYTES, PublicKey, parse_public_key
from dfmobile.testing.virtual_phone.faults import FaultCounter, Faults
from dfmobile.testing.virtual_phone.packets import Mode, Packet, PacketDecoder, PacketError
from dfmobile.testing.virtual_phone.phone_system import PhoneSystem
from dfmobile.testing.virtual_phone.shell_service import parse_destination, serve_shell
from dfmobile.testing.virtual_phone.stream import Stream
from dfmobile.testing.virtual_phone.sync_service import SyncService

State = Literal["device", "unauthorized", "offline"]

MAX_DATA_BYTES: dict[Mode, int] = {"modern": 2**20, "old": 4096}
FEATURES = ("shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir")
_MAX_STREAMS = 256
_MAX_FAILED_SIGNATURES = 64
_CHUNK_BYTES = 256 * 1024
_SEND_LIMIT_S = 60.0  # a client that takes nothing for so long is gone


@dataclass
class PhoneSettings:
    """What all connections of a phone share; tests may change it while the phone runs.

    Attributes:
        mode: how old its daemon is.
        state: whether it talks to us.
        banner: how it introduces itself.
        system: files and processes.
        counter: faults.
        known_keys: keys it lets in; None: it lets everyone in without asking.
        accept_new_keys: whether somebody taps "allow" on the screen.
        offered_keys: keys, as text, that clients asked it to allow.
        drop: breaks all connections.
        reboot: restarts the phone.
    """

    mode: Mode
    state: State
    banner: bytes
    system: PhoneSystem
    counter: FaultCounter
    drop: Callable[[], None]
    reboot: Callable[[], None]
    known_keys: list[PublicKey] | None = None
    accept_new_keys: bool = False
    offered_keys: list[str] = field(default_factory=list)

    @property
    def asks_for_key(self) -> bool:
        return self.state == "unauthorized" or self.known_keys is not None


class Connection:
    """One client.

    Args:
        peer: connected socket; the connection closes it.
        settings: of the phone.
    """

    def __init__(self, peer: socket.socket, settings: PhoneSettings) -> None:
        self._peer = peer
        self._settings = settings
        limit = MAX_DATA_BYTES[settings.mode]
        self._max_data_bytes = limit
        self._checksums = True
        self._decoder = PacketDecoder(limit, checksums=settings.mode == "old")
        self._online = False
        self._token = b""
        self._failed_signatures = 0
        self._client = Packet(packets.CONNECT)
        self._streams: dict[int, Stream] = {}
        self._streams_lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._aborted = threading.Event()
        self._outgoing: queue.Queue[bytes | None] = queue.Queue()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        """Serve until one side ends it."""
        writer = threading.Thread(target=self._write_on, daemon=True)
        writer.start()
        try:
            with contextlib.suppress(PacketError, OSError):
                self._read_on()
        finally:
            self.abort()
            self._outgoing.put(None)
            for stream in self._all_streams():
                stream.end()
            writer.join()
            self._peer.close()

    def abort(self) -> None:
        """Break the connection, as a pulled cable does; from any thread."""
        self._aborted.set()
        with contextlib.suppress(OSError):
            self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)

    # The wire

    def _read_on(self) -> None:
        while True:
            data = self._peer.recv(self._faults.chunk_bytes or _CHUNK_BYTES)
            if not data:
                return
            self._decoder.feed(data)
            while (packet := self._decoder.next_packet()) is not None:
                if self._settings.counter.drop_due(len(packet.data)):
                    self._settings.drop()
                    return
                self._handle(packet)

    def _send(self, packet: Packet) -> None:
        self._outgoing.put(packet.encode(checksum=self._checksums))

    def _write_on(self) -> None:
        """Put packets on the wire: a thread of its own, so that reading never waits for a client to read."""
        self._peer.settimeout(None)
        with contextlib.suppress(OSError):
            self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(_SEND_LIMIT_S), 0))
            while (data := self._outgoing.get()) is not None:
                counter = self._settings.counter
                if stall := counter.stall_due():
                    self._aborted.wait(stall)
                drop = counter.drop_due(max(0, len(data) - packets.HEADER.size))
                data = counter.garble(data)
                if drop:
                    data = data[: len(data) // 2]
                step = self._faults.chunk_bytes or len(data) or 1
                for start in range(0, len(data), step):
                    self._peer.sendall(data[start : start + step])
                if drop:
                    self._settings.drop()
        self.abort()

    @property
    def _faults(self) -> Faults:
        return self._settings.counter.faults

    # Packets

    def _handle(self, packet: Packet) -> None:
        command = packet.command
        if self._settings.state == "offline":
            return
        if command == packets.CONNECT:
            self._connect(packet)
        elif command == packets.AUTHENTICATE:
            self._authenticate(packet)
        elif self._online and command == packets.OPEN:
            self._open(packet)
        elif self._online and command in (packets.READY, packets.WRITE, packets.CLOSE):
            self._stream_packet(packet)

    def _connect(self, packet: Packet) -> None:
        for stream in self._all_streams():  # a client that starts anew has forgotten them
            stream.end()
        self._online = False
        self._client = packet
        if self._settings.asks_for_key:
            self._ask_for_key()
        else:
            self._come_online()

    def _ask_for_key(self) -> None:
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._send(Packet(packets.AUTHENTICATE, packets.AUTH_TOKEN, 0, self._token))

    def _authenticate(self, packet: Packet) -> None:
        if not self._token or self._online:
            return
        keys = self._settings.known_keys or []
        if packet.argument0 == packets.AUTH_SIGNATURE:
            allowed = self._settings.state == "device" and any(key.verifies(self._token, packet.data) for key in keys)
            if allowed:
                self._come_online()
                return
            self._failed_signatures += 1
            if self._failed_signatures > _MAX_FAILED_SIGNATURES:
                raise PacketError("too many wrong signatures")
            self._ask_for_key()
        elif packet.argument0 == packets.AUTH_PUBLIC_KEY:
            text = packet.data.decode("utf-8", "replace").strip("\0")
            key = parse_public_key(text)
            self._settings.offered_keys.append(text)
            if key is not None and self._settings.state == "device" and self._settings.accept_new_keys:
                self._settings.known_keys = [*keys, key]
                self._come_online()

    def _come_online(self) -> None:
        mode = self._settings.mode
        ours = packets.VERSION_WITH_CHECKSUMS if mode == "old" else packets.VERSION_WITHOUT_CHECKSUMS
        limit = MAX_DATA_BYTES[mode]
        agreed = min(self._client.argument0, ours)
        self._max_data_bytes = max(1, min(self._client.argument1 or limit, limit))
        self._checksums = agreed < packets.VERSION_WITHOUT_CHECKSUMS
        self._online = True
        self._token = b""
        self._send(Packet(packets.CONNECT, ours, limit, self._settings.banner))

    def _open(self, packet: Packet) -> None:
        destination = packet.data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        if not packet.argument0 or packet.argument1:
            return
        with self._streams_lock:
            full = len(self._streams) >= _MAX_STREAMS
        service = None if full else self._service(destination)
        if service is None:
            self._send(Packet(packets.CLOSE, 0, packet.argument0))
            return
        number = next(self._numbers)
        stream = Stream(number, packet.argument0, self._max_data_bytes, self._send, self._forget)
        with self._streams_lock:
            self._streams[number] = stream
        self._send(Packet(packets.READY, number, packet.argument0))
        threading.Thread(target=service, args=(stream,), daemon=True).start()

    def _service(self, destination: str) -> Callable[[Stream], None] | None:
        """Return what serves a stream; None for what this phone does not offer."""
        settings = self._settings
        old = settings.mode == "old"
        if destination.startswith("sync:"):
            versions = (1,) if old else (1, 2)
            return lambda stream: SyncService(stream, settings.system, settings.counter, versions).run()
        if destination.startswith("reboot:"):
            return lambda stream: settings.reboot()
        request = parse_destination(destination, old=old)
        if request is None:
            return None
        return lambda stream: serve_shell(stream, settings.system, request)

    def _stream_packet(self, packet: Packet) -> None:
        with self._streams_lock:
            stream = self._streams.get(packet.argument1)
        if stream is not None and stream.remote_id != packet.argument0 and packet.argument0:
            return
        if packet.command == packets.READY:
            if stream is not None:
                stream.allow()
            else:
                self._send(Packet(packets.CLOSE, packet.argument1, packet.argument0))
        elif stream is not None and packet.command == packets.WRITE:
            stream.deliver(packet.data)
        elif stream is not None:
            stream.end()
            self._send(Packet(packets.CLOSE, stream.local_id, stream.remote_id))

    def _forget(self, stream: Stream) -> None:
        with self._streams_lock:
            self._streams.pop(stream.local_id, None)

    def _all_streams(self) -> list[Stream]:
        with self._streams_lock:
            return list(self._streams.values())
