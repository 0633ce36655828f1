"""What ssh's words mean, and what to do about it. Pure text.

ssh ends with 255 whatever went wrong; only its messages tell one cause from another. They are OpenSSH's of 7.6 and
later, in English whatever the locale: ssh is run with ``LC_ALL=C``, since the C library's part of them is translated.
"""

from __future__ import annotations

import re

from dfmobile.devices.transport.results import AnotherDeviceError, ConnectionLostError, UnauthorizedError
from dfmobile.devices.uri import SSH_PORT, DeviceURI
from dfmobile.errors import DeviceError, InputError

_SHOWN = 300  # characters


class HostKeyUnknownError(DeviceError):
    """Nobody has said yet that this host's key is the right one."""


class HostKeyChangedError(AnotherDeviceError):
    """The host shows another key than the one that is known: it may be another host. Never gone past."""


class SshMessagesError(Exception):
    """Carries what ssh wrote, as the cause of an error, for ``--debug``."""


def last_line(messages: str) -> str:
    """Return the last line that says something, printable and of bounded length."""
    lines = [line.strip() for line in messages.splitlines() if line.strip().strip("@")]
    text = lines[-1] if lines else "ssh says nothing"
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_SHOWN]


def connection_error(uri: DeviceURI, messages: str) -> DeviceError | InputError:
    """Return the error for a connection that could not be made.

    Args:
        uri: the device.
        messages: ssh's stderr.
    """
    error = _known(uri, messages) or DeviceError(
        f"{uri} cannot be reached: {last_line(messages)}", hint=f"see what it says: {by_hand(uri)} -v true"
    )
    error.__cause__ = SshMessagesError(messages.strip())
    return error


def lost_error(uri: DeviceURI, messages: str, what: str = "the connection is lost") -> ConnectionLostError:
    """Return the error for a connection that was there."""
    said = f": {last_line(messages)}" if messages.strip() else ""
    error = ConnectionLostError(f"{uri}: {what}{said}", hint="see that the board is on and its network is there")
    error.__cause__ = SshMessagesError(messages.strip())
    return error


def by_hand(uri: DeviceURI) -> str:
    """Return the command by which a user makes the same connection."""
    port = "" if uri.port == SSH_PORT else f"-p {uri.port} "
    return f"ssh {port}{uri.user}@{uri.host}"


def _known_as(uri: DeviceURI) -> str:
    """Return the host's name in ``known_hosts``."""
    return f"{uri.host}" if uri.port == SSH_PORT else f"[{uri.host}]:{uri.port}"


def _known(uri: DeviceURI, messages: str) -> DeviceError | InputError | None:
    """Return the error for the causes that have a way out; None for the others."""

    def says(pattern: str) -> re.Match[str] | None:
        return re.search(pattern, messages, re.IGNORECASE)

    by_key = _host_key(uri, messages)
    if by_key is not None:
        return by_key
    if says(r"bad configuration option|terminating, \d+ bad|bad owner or permissions on|can't open user config file"):
        return InputError(
            f"the configuration of ssh cannot be used: {_config_line(messages)}",
            hint="correct ~/.ssh/config, or the file that DFMOBILE_SSH_CONFIG names",
        )
    if says(r"could not resolve hostname|name or service not known"):
        return DeviceError(
            f"{uri} cannot be reached: no address is known for the name {uri.host!r}",
            hint="check the spelling; or use the board's IP address",
        )
    denied = says(r"permission denied \(([^)]*)\)|too many authentication failures|no more authentication methods")
    if denied:
        ways = f" (it takes: {denied[1]})" if denied[1] else ""
        return UnauthorizedError(
            f"{uri} does not let us in: it accepts none of our keys{ways}",
            hint=f"give it your key: ssh-copy-id {_port_option(uri)}{uri.user}@{uri.host}; a key with a passphrase "
            "must be in ssh-agent (ssh-add)",
        )
    if says(r"connection refused"):
        return DeviceError(
            f"{uri} refuses the connection: nothing listens on port {uri.port}",
            hint="start sshd on the board (sudo systemctl start ssh), and check the port",
        )
    if says(r"timed out|timeout, server|operation timed out"):
        return DeviceError(
            f"{uri} does not answer in time",
            hint="see that the board is on and in the same network, and that no firewall is between",
        )
    if says(r"no route to host|network is unreachable|host is down"):
        return DeviceError(
            f"{uri} cannot be reached: {last_line(messages)}", hint="see that the board is on and in the same network"
        )
    if says(r"unable to negotiate|no matching .* found"):
        return DeviceError(
            f"{uri} and this ssh have no method in common: {last_line(messages)}",
            hint="update the sshd of the board, or allow the method for this host in ~/.ssh/config",
        )
    if not messages.strip() or says(
        r"connection (closed|reset)|closed by remote host|broken pipe|kex_exchange_identification"
    ):
        return ConnectionLostError(
            f"{uri} ended the connection while it was made: {last_line(messages)}",
            hint="run again; if it stays so, see the log of sshd on the board (journalctl -u ssh)",
        )
    return None


def _host_key(uri: DeviceURI, messages: str) -> DeviceError | None:
    name = _known_as(uri)
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in messages or "REVOKED HOST KEY" in messages:
        return HostKeyChangedError(
            f"{uri} shows another host key than the one that is known: it may be another machine that pretends to be "
            "the board; nothing was sent to it",
            hint="compare the key with the board's own, at its screen or serial console: ssh-keygen -lf "
            "/etc/ssh/ssh_host_ed25519_key.pub. Only if that is the key shown now, and you know why it changed: "
            f"ssh-keygen -R '{name}', then {by_hand(uri)}",
        )
    if re.search(r"host key is known for|host key verification failed|authenticity of host", messages, re.IGNORECASE):
        return HostKeyUnknownError(
            f"the host key of {uri} is not known here",
            hint=f"connect once by hand, {by_hand(uri)}, and compare the fingerprint it shows with the board's own "
            "(there: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) before you say yes",
        )
    return None


def _config_line(messages: str) -> str:
    """Return the first line about the configuration: the last one only counts them."""
    for line in messages.splitlines():
        if re.search(r"bad configuration|bad owner|can't open", line, re.IGNORECASE):
            return last_line(line)
    return last_line(messages)


def _port_option(uri: DeviceURI) -> str:
    return "" if uri.port == SSH_PORT else f"-p {uri.port} "


def storage_hint(reason: str) -> str:
    """Return what to do about a board's refusal, by the words of its C library."""
    lower = reason.lower()
    if "no space left" in lower or "quota" in lower:
        return "free space on the board (df -h shows where it is short), or set TMPDIR there to a larger disk"
    if "file too large" in lower:
        return "the board limits the size of files (ulimit -f), or its file system does"
    if "read-only file system" in lower:
        return "use a folder that can be written; if its disk has become read-only, see dmesg there"
    if "permission denied" in lower or "not permitted" in lower:
        return "use a path that the user may access there"
    if "no such file" in lower or "nonexistent" in lower or "not a directory" in lower:
        return "check the path; its folder must be there"
    return ""
