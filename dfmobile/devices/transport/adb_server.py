"""A device that the host's adb server holds: ``adb:SERIAL``, the usual way for USB.

The library adbutils (extra ``adb``) is imported when it is needed. Nothing is ever started here: where no server
runs, the user is told how to start it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, ClassVar

from dfmobile.devices.transport.adb_base import AdbTransport
from dfmobile.devices.transport.adb_states import PASSING, READY, server_port, state_hint, state_name
from dfmobile.devices.transport.adb_stream import AdbLink
from dfmobile.devices.transport.base import DeviceListing, UnauthorizedError
from dfmobile.devices.uri import DeviceURI, parse_device
from dfmobile.errors import DeviceError, DfmobileError, import_extra

if TYPE_CHECKING:
    from dfmobile.devices.transport.adb_server_link import ServerEntry

_SETTLE_S = 5.0  # a phone that was just plugged in or connected passes through other states
_LOOK_AGAIN_S = 0.1


class AdbServerTransport(AdbTransport):
    """A device through the adb server of this machine.

    The server's port is 5037, or what ``ANDROID_ADB_SERVER_PORT`` says; its host likewise
    (``ANDROID_ADB_SERVER_HOST``, as adbutils calls it).
    """

    scheme: ClassVar[str] = "adb"

    @classmethod
    def open(cls, uri: DeviceURI) -> AdbServerTransport:
        """Connect; see ``Transport.open``."""
        return cls(uri)

    @classmethod
    def enumerate(cls) -> list[DeviceListing]:
        """Return the phones that the server knows, with what to do about those that are not ready.

        Raises:
            MissingExtraError: if adbutils is not installed.
            DeviceError: if no server runs.
        """
        found = []
        for entry in _server_entries():
            try:
                text = parse_device(f"adb:{entry.serial}").text
            except DfmobileError:
                text = "adb:"  # of question marks, where the server may not read it: nothing to address it by
            hint = state_hint(entry.state, entry.serial)
            found.append(DeviceListing(text, state_name(entry.state), entry.description, hint))
        return found

    def _connect(self) -> AdbLink:
        from dfmobile.devices.transport.adb_server_link import ServerLink

        serial = self.uri.address
        deadline = time.monotonic() + _SETTLE_S
        while True:
            entries = _server_entries()
            entry = next((item for item in entries if item.serial == serial), None)
            if entry is None:
                raise DeviceError(f"{self.uri} is not connected to the adb server", hint=_not_there(serial, entries))
            if state_name(entry.state) == READY:
                break
            if entry.state == "unauthorized":
                raise UnauthorizedError(f"{self.uri} is not ready: {entry.state}", state_hint(entry.state, serial))
            if entry.state not in PASSING or time.monotonic() >= deadline:
                raise DeviceError(f"{self.uri} is not ready: {entry.state}", hint=state_hint(entry.state, serial))
            time.sleep(_LOOK_AGAIN_S)
        return ServerLink(serial)


def _server_entries() -> list[ServerEntry]:
    if not os.environ.get("ANDROID_ADB_SERVER_PORT", "unset"):
        del os.environ["ANDROID_ADB_SERVER_PORT"]  # empty is unset for adb; the library would fail at it
    server_port()  # before the library reads it, which does so when it is imported
    import_extra("adbutils", "adb", "the adb server")
    from dfmobile.devices.transport.adb_server_link import list_entries

    return list_entries()


def _not_there(serial: str, entries: list[ServerEntry]) -> str:
    known = ", ".join(f"adb:{entry.serial} ({state_name(entry.state)})" for entry in entries[:10])
    if ":" in serial:
        return f"adb connect {serial}" + (f"; connected are: {known}" if known else "")
    if known:
        return f"connected are: {known}"
    return "no phone is connected: plug it in and switch on USB debugging (Settings, Developer options)"
