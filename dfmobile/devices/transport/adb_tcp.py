"""A device whose ADB daemon listens on TCP: ``adb+tcp:HOST:PORT``. No adb server is needed.

The library adb-shell (extra ``adb``) is imported when a device is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from dfmobile.devices.transport.adb_base import AdbTransport
from dfmobile.devices.transport.adb_keys import AdbKey, load_or_make_key
from dfmobile.devices.transport.adb_stream import AdbLink
from dfmobile.devices.uri import DeviceURI
from dfmobile.errors import InputError, import_extra


class AdbTcpTransport(AdbTransport):
    """A device over ADB on TCP.

    Args:
        uri: ``adb+tcp:HOST:PORT``.
        key: path of the private key; the user's by default.
        connect_s: longest wait for the connection and the first answer.
        accept_s: longest wait for the user to accept the key on the phone's screen.
    """

    scheme: ClassVar[str] = "adb+tcp"

    def __init__(
        self, uri: DeviceURI, *, key: Path | None = None, connect_s: float = 10.0, accept_s: float = 10.0
    ) -> None:
        import_extra("adb_shell", "adb", "a phone over ADB")
        self._key_path = key
        self._connect_s = connect_s
        self._accept_s = accept_s
        super().__init__(uri)

    @classmethod
    def open(cls, uri: DeviceURI) -> AdbTcpTransport:
        """Connect; see ``Transport.open``."""
        return cls(uri)

    def _connect(self) -> AdbLink:
        from dfmobile.devices.transport.adb_tcp_pipe import TcpPipe
        from dfmobile.devices.transport.adb_wire import WireLink

        host, port = self.uri.host, self.uri.port
        if host is None or port is None:
            raise InputError(f"{self.uri} has no host and port")
        return WireLink(TcpPipe(host, port), self._find_key, str(self.uri), self._connect_s, self._accept_s)

    def _find_key(self) -> AdbKey:
        return load_or_make_key(self._key_path)
