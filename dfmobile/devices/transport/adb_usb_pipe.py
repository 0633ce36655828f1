"""Bytes to an ADB daemon over USB, as adb-shell wants a pipe (``BaseTransport``), by libusb (library libusb1).

Unlike the library's own ``UsbTransport``: a transfer whose length is a multiple of the endpoint's packets is followed
by an empty one, as Android's own adb does (https://android.googlesource.com/platform/packages/modules/adb/,
client/usb_linux.cpp); what came before a timeout is kept; a device that another program holds is told from one that
is not there. Imports the library at once: see ``adb_usb``. Not verified on hardware.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import usb1
from adb_shell.exceptions import AdbTimeoutError
from adb_shell.transport.base_transport import BaseTransport

from dfmobile.devices.transport.adb_states import READY, state_hint
from dfmobile.errors import DeviceError

_ADB_INTERFACE = (0xFF, 0x42, 0x01)  # class, subclass, protocol
_DEFAULT_S = 10.0
_WRITE_BYTES = 1 << 14  # Linux' limit of one transfer on older kernels
_NO_LISTING = "see whether lsusb lists them; in a container, /dev/bus/usb has to be passed on"
_BUSY_HINT = "an adb server holds it: use adb:{serial}, or stop the server with: adb kill-server"


@dataclass(frozen=True)
class UsbPhone:
    """A USB device with an ADB interface.

    Attributes:
        serial: as the device says; ``?`` where it cannot be read.
        state: ``ready``, ``busy`` or ``no permissions``.
        description: product, as the device says.
        hint: what to do where it is not ready.
    """

    serial: str
    state: str
    description: str
    hint: str


def find_phones() -> list[UsbPhone]:
    """Return the phones on USB.

    Raises:
        DeviceError: if libusb cannot be used.
    """
    with _context() as context:
        return [_look_at(device) for device, _ in _adb_interfaces(context)]


def _look_at(device: Any) -> UsbPhone:
    try:
        serial, product = device.getSerialNumber(), device.getProduct() or ""
    except usb1.USBErrorAccess:
        return UsbPhone("?", "no permissions", "", state_hint("no permissions", "?"))
    except usb1.USBError as error:
        return UsbPhone("?", "error", str(error), "unplug the cable and plug it in again")
    if _is_claimed(device):
        return UsbPhone(serial, "busy", product, _BUSY_HINT.format(serial=serial))
    return UsbPhone(serial, READY, product, "")


def _is_claimed(device: Any) -> bool:
    """Whether another program holds the interface; tried for a moment."""
    for setting in device.iterSettings():
        if _interface(setting) == _ADB_INTERFACE:
            try:
                handle = device.open()
                try:
                    handle.claimInterface(setting.getNumber())
                    handle.releaseInterface(setting.getNumber())
                finally:
                    handle.close()
            except usb1.USBErrorBusy:
                return True
            except usb1.USBError:
                return False
    return False


class UsbPipe(BaseTransport):  # type: ignore[misc]  # the library is untyped
    """The ADB interface of a USB device.

    Args:
        serial: of the device.
    """

    def __init__(self, serial: str) -> None:
        self._serial = serial
        self._cleanup = contextlib.ExitStack()
        self._handle: Any = None
        self._read_from = 0
        self._write_to = 0
        self._packet_bytes = 0

    def connect(self, transport_timeout_s: float | None) -> None:
        """Find the device and claim its interface.

        Raises:
            DeviceError: if it is not there, held by another program, or may not be opened.
        """
        self.close()
        try:
            context = self._cleanup.enter_context(_context())
            device, setting = self._find(context)
            self._open(device, setting)
        except BaseException:
            self.close()
            raise

    def _find(self, context: Any) -> tuple[Any, Any]:
        seen = []
        for device, setting in _adb_interfaces(context):
            try:
                serial = device.getSerialNumber()
            except usb1.USBErrorAccess:
                serial = "? (no permissions)"
            except usb1.USBError:
                serial = "? (cannot be read)"
            if serial == self._serial:
                return device, setting
            seen.append(f"adb+usb:{serial}")
        no_permissions = any("permissions" in item for item in seen)
        hint = "plug the phone in and switch on USB debugging (Settings, Developer options)"
        if seen:
            hint = f"on USB are: {', '.join(seen[:10])}"
        if no_permissions:
            hint = state_hint("no permissions", self._serial)
        raise DeviceError(f"adb+usb:{self._serial} is not on USB", hint=hint)

    def _open(self, device: Any, setting: Any) -> None:
        name = f"adb+usb:{self._serial}"
        try:
            handle = device.open()
            self._cleanup.callback(handle.close)
            handle.claimInterface(setting.getNumber())
        except usb1.USBErrorBusy as error:
            raise DeviceError(f"{name} is busy", hint=_BUSY_HINT.format(serial=self._serial)) from error
        except usb1.USBErrorAccess as error:
            hint = state_hint("no permissions", self._serial)
            raise DeviceError(f"{name} may not be opened by this user", hint=hint) from error
        except usb1.USBError as error:
            raise DeviceError(f"{name} cannot be opened: {error}", hint="unplug it and plug it in again") from error
        self._cleanup.callback(_release, handle, setting.getNumber())
        for endpoint in setting.iterEndpoints():
            if endpoint.getAddress() & usb1.ENDPOINT_DIR_MASK:
                self._read_from = endpoint.getAddress()
            else:
                self._write_to = endpoint.getAddress()
                self._packet_bytes = endpoint.getMaxPacketSize()
        if not self._read_from or not self._write_to or self._packet_bytes < 1:
            raise DeviceError(f"{name}: its ADB interface has no two endpoints", hint="unplug it and plug it in again")
        self._handle = handle

    def close(self) -> None:
        """Let go of the device; nothing open is no error."""
        self._handle = None
        self._cleanup.close()

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        """Return some bytes.

        Raises:
            AdbTimeoutError: if none came in time.
            OSError: if the device is gone.
        """
        handle = self._opened()
        try:
            return bytes(handle.bulkRead(self._read_from, numbytes, timeout=_milliseconds(transport_timeout_s)))
        except usb1.USBErrorTimeout as error:
            received = bytes(getattr(error, "received", b"") or b"")
            if received:
                return received
            raise AdbTimeoutError(f"nothing came within {transport_timeout_s} s") from error
        except usb1.USBError as error:
            raise OSError(f"USB: {error}") from error

    def bulk_write(self, data: bytes, transport_timeout_s: float | None) -> int:
        """Send all bytes; return how many.

        Raises:
            AdbTimeoutError: if they were not taken in time; some of them are out then.
            OSError: if the device is gone.
        """
        handle = self._opened()
        deadline = time.monotonic() + (transport_timeout_s if transport_timeout_s is not None else _DEFAULT_S)
        done = 0
        while done < len(data):
            done += self._write(handle, data[done : done + _WRITE_BYTES], deadline)
        if data and len(data) % self._packet_bytes == 0:
            self._write(handle, b"", deadline)  # else the device waits for the rest of the transfer
        return done

    def _write(self, handle: Any, data: bytes, deadline: float) -> int:
        left = deadline - time.monotonic()
        if left <= 0:
            raise AdbTimeoutError("the device does not take what is sent")
        try:
            sent = int(handle.bulkWrite(self._write_to, data, timeout=_milliseconds(left)))
        except usb1.USBErrorTimeout as error:
            raise AdbTimeoutError("the device does not take what is sent") from error
        except usb1.USBError as error:
            raise OSError(f"USB: {error}") from error
        if data and sent < 1:
            raise OSError("USB: nothing was sent")
        return sent

    def _opened(self) -> Any:
        if self._handle is None:
            raise ConnectionResetError("the connection is closed")
        return self._handle


@contextlib.contextmanager
def _context() -> Iterator[Any]:
    try:
        context = usb1.USBContext()
        context.open()
    except (usb1.USBError, OSError) as error:
        raise DeviceError(f"USB cannot be used: {error}", hint="install libusb (package libusb-1.0-0)") from error
    try:
        yield context
    finally:
        context.close()


def _adb_interfaces(context: Any) -> list[tuple[Any, Any]]:
    """Return the devices with an ADB interface.

    Raises:
        DeviceError: if libusb cannot list devices.
    """
    found = []
    try:
        for device in context.getDeviceIterator(skip_on_error=True):
            for setting in device.iterSettings():
                if _interface(setting) == _ADB_INTERFACE:
                    found.append((device, setting))
                    break
    except usb1.USBError as error:
        raise DeviceError(f"the devices on USB cannot be listed: {error}", hint=_NO_LISTING) from error
    return found


def _interface(setting: Any) -> tuple[int, int, int]:
    return setting.getClass(), setting.getSubClass(), setting.getProtocol()


def _release(handle: Any, number: int) -> None:
    with contextlib.suppress(usb1.USBError):
        handle.releaseInterface(number)


def _milliseconds(seconds: float | None) -> int:
    return max(int((seconds if seconds is not None else _DEFAULT_S) * 1000), 1)  # 0 would be for ever
