"""Open a device by its URI, and list those that can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

from dfmobile import registry
from dfmobile.devices.transport.base import DeviceListing, Transport
from dfmobile.devices.uri import SERIAL_SCHEMES, DeviceURI, parse_device
from dfmobile.errors import DeviceError, DfmobileError, InputError

if TYPE_CHECKING:
    from dfmobile.devices.profile_schema import DeviceProfile

GROUP = "dfmobile.transports"


@dataclass
class Device:
    """A device that is open.

    The profile is probed when it is first asked for and then kept, so opening a device to run one command
    costs no probe.

    Attributes:
        uri: its name.
        transport: how files and commands reach it.
    """

    uri: DeviceURI
    transport: Transport

    @cached_property
    def profile(self) -> DeviceProfile:
        """What is known of the device."""
        return self.transport.probe()

    @cached_property
    def fingerprint(self) -> str:
        """Which hardware and operating system it is; the same at every call and after a reboot."""
        from dfmobile.devices.fingerprint import fingerprint

        return fingerprint(self.profile)

    def close(self) -> None:
        """Let go of the device."""
        self.transport.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_device(text: str) -> Device:
    """Open a device.

    Args:
        text: ``local``, ``adb:SERIAL``, ``adb+tcp:HOST:PORT``, ``adb+usb:SERIAL`` or ``ssh:USER@HOST[:PORT]``.

    Raises:
        InputError: if it is not a device URI; where only the serial is missing, with those that are there.
        DeviceError: if this installation cannot reach such devices, or the device cannot be reached.
        PluginError: if two packages give the same transport, or one cannot be imported.
    """
    _check_named(text)
    uri = parse_device(text)
    known = registry.names(GROUP)
    if uri.scheme not in known:
        raise DeviceError(
            f"{uri} cannot be opened: no transport for {uri.scheme!r} is in this version of dfmobile",
            hint=f"available here: {', '.join(known) or 'none; is dfmobile installed?'}",
        )
    return Device(uri, _transport_class(uri.scheme).open(uri))


def _check_named(text: str) -> None:
    """Refuse ``adb:`` without a serial, naming the phones that there are: which one is never guessed."""
    scheme, colon, address = text.strip().partition(":")
    if scheme not in SERIAL_SCHEMES or not colon or address or scheme not in registry.names(GROUP):
        return
    found = _transport_class(scheme).enumerate()
    if not found:
        raise DeviceError(
            f"{text.strip()!r} names no phone, and none is connected",
            hint="plug it in and switch on USB debugging (Settings, Developer options)",
        )
    phones = ", ".join(f"{item.uri} ({', '.join(filter(None, [item.description, item.state]))})" for item in found[:10])
    raise InputError(f"{text.strip()!r} names no phone: the serial is missing", hint=f"connected are: {phones}")


def list_devices() -> list[DeviceListing]:
    """Return this machine and every device that a transport can see, in the order of the transports' names.

    A transport that fails does not hide the others: it is listed with the state ``error``.

    Raises:
        PluginError: if two packages give the same transport.
    """
    found: list[DeviceListing] = []
    for name in sorted(registry.names(GROUP), key=lambda name: (name != "local", name)):
        try:
            found += _transport_class(name).enumerate()
        except DfmobileError as error:
            found.append(DeviceListing(uri=f"{name}:", state="error", description=str(error), hint=error.hint))
    return found


def _transport_class(scheme: str) -> type[Transport]:
    loaded = registry.load(GROUP, scheme)
    if not (isinstance(loaded, type) and issubclass(loaded, Transport)):
        raise DeviceError(
            f"the transport {scheme!r} is not a subclass of dfmobile.devices.transport.base.Transport",
            hint="update or uninstall the package that registers it",
        )
    return loaded
