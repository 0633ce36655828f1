"""Device URIs: the one text by which a user, a table and a campaign name a device.

Pure text: nothing is opened here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dfmobile import registry
from dfmobile.errors import InputError

FORMS = ("local", "adb:SERIAL", "adb+tcp:HOST:PORT", "adb+usb:SERIAL", "ssh:USER@HOST[:PORT]")
SERIAL_SCHEMES = ("adb", "adb+usb")  # whose address is a phone's serial
SSH_PORT = 22

# A leading dash would be read as an option by adb and ssh.
_SERIAL = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.:\-]{0,127}")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.\-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.\-]{0,253}")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9_.\-]{1,32})?\]")
_PORT = re.compile(r"[0-9]{1,5}")
# Of a scheme that a third party registered: its transport knows what an address means.
_ADDRESS = re.compile(r"[!-,./-~][!-~]{0,255}")
_MAX_LENGTH = 400


@dataclass(frozen=True)
class DeviceURI:
    """A device's name, taken apart.

    Attributes:
        scheme: ``local``, ``adb``, ``adb+tcp``, ``adb+usb``, ``ssh`` or a third party's: the name of the transport.
        address: what follows the first colon, with the port always written out for ``ssh``; empty for ``local``.
        text: canonical text; ``parse_device(uri.text) == uri``.
    """

    scheme: str
    address: str
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def host(self) -> str | None:
        """Host name or address (IPv6 without its brackets); None unless ``adb+tcp`` or ``ssh``."""
        if self.scheme not in ("adb+tcp", "ssh"):
            return None
        return self.address.rpartition("@")[2].rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int | None:
        """TCP port; None unless ``adb+tcp`` or ``ssh``."""
        return int(self.address.rpartition(":")[2]) if self.scheme in ("adb+tcp", "ssh") else None

    @property
    def user(self) -> str | None:
        """User name on the far side; None unless ``ssh``."""
        return self.address.rpartition("@")[0] if self.scheme == "ssh" else None


def parse_device(text: str) -> DeviceURI:
    """Read a device URI.

    Args:
        text: ``local``, ``adb:SERIAL``, ``adb+tcp:HOST:PORT``, ``adb+usb:SERIAL`` or ``ssh:USER@HOST[:PORT]``;
            spaces around it are ignored, an IPv6 address stands in brackets. Also ``SCHEME:ADDRESS`` of a
            transport that a package has registered.

    Raises:
        InputError: if it has none of these forms.
        PluginError: if two packages give the same transport.
    """
    stripped = text.strip()
    if len(stripped) > _MAX_LENGTH:
        raise _malformed(stripped[:40] + "…", "it is too long")
    if stripped == "local":
        return DeviceURI("local", "", "local")
    scheme, colon, address = stripped.partition(":")
    if not colon:
        raise _malformed(stripped, "unknown device")
    if scheme == "local":
        raise _malformed(stripped, "'local' has no address")
    if scheme in SERIAL_SCHEMES:
        return _by_serial(stripped, scheme, address)
    if scheme == "adb+tcp":
        return _adb_tcp(stripped, address)
    if scheme == "ssh":
        return _ssh(stripped, address)
    if scheme in registry.names("dfmobile.transports"):
        if not _ADDRESS.fullmatch(address):
            raise _malformed(stripped, "an address is printable ASCII without spaces or a leading '-'")
        return DeviceURI(scheme, address, f"{scheme}:{address}")
    raise _malformed(stripped, f"unknown scheme {scheme!r}")


def _by_serial(text: str, scheme: str, serial: str) -> DeviceURI:
    if not serial:
        raise _malformed(text, "the serial is missing")
    if not _SERIAL.fullmatch(serial):
        raise _malformed(text, "a serial is letters, digits, '.', '_', ':' and '-'")
    return DeviceURI(scheme, serial, f"{scheme}:{serial}")


def _adb_tcp(text: str, address: str) -> DeviceURI:
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise _malformed(text, "the port is missing")
    _check_host(text, host)
    address = f"{host}:{_checked_port(text, port)}"
    return DeviceURI("adb+tcp", address, f"adb+tcp:{address}")


def _ssh(text: str, address: str) -> DeviceURI:
    if address.startswith("//"):
        raise _malformed(text, "no slashes come after 'ssh:'")
    user, at, rest = address.partition("@")
    if not at:
        raise _malformed(text, "the user is missing")
    if not _USER.fullmatch(user):
        raise _malformed(text, "a user name is letters, digits, '.', '_' and '-'")
    host, port = rest, str(SSH_PORT)
    if rest.startswith("["):
        host, bracket, tail = rest.partition("]")
        host += bracket
        if tail and not tail.startswith(":"):
            raise _malformed(text, "after the bracket comes nothing or ':PORT'")
        port = tail[1:] if tail else port
    elif ":" in rest:
        host, _, port = rest.rpartition(":")
    _check_host(text, host)
    address = f"{user}@{host}:{_checked_port(text, port)}"
    return DeviceURI("ssh", address, f"ssh:{address}")


def _check_host(text: str, host: str) -> None:
    if not (_NAME.fullmatch(host) or _IPV6.fullmatch(host)):
        raise _malformed(text, "a host is a name, an IPv4 address, or an IPv6 address in brackets")


def _checked_port(text: str, port: str) -> int:
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise _malformed(text, "a port is a number from 1 to 65535")
    return int(port)


def _malformed(text: str, why: str) -> InputError:
    return InputError(f"{text!r} is not a device: {why}", hint=f"one of: {', '.join(FORMS)}")
