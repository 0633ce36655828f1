"""Streams to services of a device, whatever carries them: the one thing that the two ways of ADB differ in.

A link is a connection to one device; a stream is one conversation with one of its services (``shell``, ``sync``)
over it. What is said in a stream belongs to ``adb_command`` and ``adb_sync``; who carries it, to ``adb_wire``
(the ADB protocol itself, over TCP or USB) and ``adb_server_link`` (the host's adb server).

All deadlines are absolute, by ``time.monotonic()``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from dfmobile.devices.transport.base import ConnectionLostError

GONE_HINT = "check the cable and whether the phone is on, then run again"


class AdbStream(ABC):
    """A two-way stream of bytes to a service of the device."""

    @property
    @abstractmethod
    def readable(self) -> bool:
        """Whether ``receive`` has something at once: bytes, or the end."""

    @property
    @abstractmethod
    def writable(self) -> bool:
        """Whether ``send`` takes something at once."""

    @abstractmethod
    def wait(self, deadline: float, *, to_send: bool) -> bool:
        """Wait until something can be received, or sent where that is asked for; False if the deadline came first.

        Raises:
            ConnectionLostError: if the device went away.
        """

    @abstractmethod
    def receive(self) -> bytes:
        """Return what has come; empty at the end of the stream. Only where ``readable``.

        Raises:
            ConnectionLostError: if the device went away.
        """

    @abstractmethod
    def send(self, data: bytes | memoryview) -> int:
        """Send the beginning of ``data``; return how many bytes of it. Only where ``writable``.

        Raises:
            ConnectionLostError: if the device went away.
        """

    @abstractmethod
    def close(self) -> None:
        """End the conversation. Closing twice is allowed, and a device that is gone is no error."""


class AdbLink(ABC):
    """A connection to one device.

    Attributes:
        features: what the device's daemon can do: ``shell_v2``, ``stat_v2``, ``ls_v2``, …
        command_limit_bytes: longest command line that a ``shell`` service takes over this link.
    """

    features: frozenset[str]
    command_limit_bytes: int

    @abstractmethod
    def open_stream(self, service: bytes, deadline: float) -> AdbStream:
        """Open a stream to a service, e.g. ``b"sync:"``.

        Raises:
            DeviceError: if the device refuses the service.
            ConnectionLostError: if the device went away, or does not answer by the deadline.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the device; every stream of the link ends."""


def read_exactly(stream: AdbStream, buffer: bytearray, size: int, idle_s: float) -> bytes:
    """Return the next ``size`` bytes of a stream.

    Args:
        stream: where from.
        buffer: what was read before and not used yet; keeps what is left over.
        size: bytes wanted.
        idle_s: longest silence allowed, in seconds.

    Raises:
        ConnectionLostError: if the stream ends before, or is silent for too long.
    """
    while len(buffer) < size:
        if not stream.wait(time.monotonic() + idle_s, to_send=False):
            raise ConnectionLostError(f"the device sent nothing for {idle_s:g} s", hint=GONE_HINT)
        data = stream.receive()
        if not data:
            raise ConnectionLostError("the device ended the conversation in the middle", hint=GONE_HINT)
        buffer += data
    taken = bytes(buffer[:size])
    del buffer[:size]
    return taken


def read_to_end(stream: AdbStream, limit_bytes: int, deadline: float) -> bytes:
    """Return all that a stream brings until its end.

    Raises:
        ConnectionLostError: if the deadline comes first, or it brings more than the limit.
    """
    found = bytearray()
    while True:
        if not stream.wait(deadline, to_send=False):
            raise ConnectionLostError("the device does not answer in time", hint=GONE_HINT)
        data = stream.receive()
        if not data:
            return bytes(found)
        found += data
        if len(found) > limit_bytes:
            raise ConnectionLostError(f"the device answers with more than {limit_bytes} bytes", hint=GONE_HINT)
