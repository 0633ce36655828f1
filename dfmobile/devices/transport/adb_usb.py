"""A device on this machine's USB, without an adb server: ``adb+usb:SERIAL``.

An adb server that runs holds every phone on USB, and direct USB is busy then; ``adb:SERIAL`` is the usual way. The
libraries adb-shell and libusb1 (extra ``adb``) are imported when they are needed. Not verified on hardware.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import ClassVar

from dfmobile.devices.transport.adb_base import AdbTransport
from dfmobile.devices.transport.adb_keys import AdbKey, load_or_make_key
from dfmobile.devices.transport.adb_stream import AdbLink
from dfmobile.devices.transport.base import DeviceListing
from dfmobile.devices.uri import DeviceURI, parse_device
from dfmobile.errors import DfmobileError, import_extra


class AdbUsbTransport(AdbTransport):
    """A device over ADB on USB.

    Args:
        uri: ``adb+usb:SERIAL``.
        key: path of the private key; the user's by default.
        connect_s: longest wait for the first answer.
        accept_s: longest wait for the user to accept the key on the phone's screen.
    """

    scheme: ClassVar[str] = "adb+usb"

    def __init__(
        self, uri: DeviceURI, *, key: Path | None = None, connect_s: float = 10.0, accept_s: float = 10.0
    ) -> None:
        import_extra("adb_shell", "adb", "a phone over ADB")
        import_extra("usb1", "adb", "a phone on USB")
        self._key_path = key
        self._connect_s = connect_s
        self._accept_s = accept_s
        super().__init__(uri)

    @classmethod
    def open(cls, uri: DeviceURI) -> AdbUsbTransport:
        """Connect; see ``Transport.open``."""
        return cls(uri)

    @classmethod
    def enumerate(cls) -> list[DeviceListing]:
        """Return the phones on USB; empty without the extra ``adb``, which ``adb:`` already asks for."""
        if importlib.util.find_spec("usb1") is None or importlib.util.find_spec("adb_shell") is None:
            return []
        from dfmobile.devices.transport.adb_usb_pipe import find_phones

        found = []
        for phone in find_phones():
            try:
                uri = parse_device(f"adb+usb:{phone.serial}")
            except DfmobileError:
                continue  # its serial cannot be read, or no URI can hold it: it cannot be opened either
            found.append(DeviceListing(uri.text, phone.state, phone.description, phone.hint))
        return found

    def _connect(self) -> AdbLink:
        from dfmobile.devices.transport.adb_usb_pipe import UsbPipe
        from dfmobile.devices.transport.adb_wire import WireLink

        return WireLink(UsbPipe(self.uri.address), self._find_key, str(self.uri), self._connect_s, self._accept_s)

    def _find_key(self) -> AdbKey:
        return load_or_make_key(self._key_path)
