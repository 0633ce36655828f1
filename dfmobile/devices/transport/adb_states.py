"""The states in which ``adb devices`` shows a phone, and what to do about each; and the port of its server."""

from __future__ import annotations

import os

from dfmobile.errors import InputError

DEFAULT_PORT = 5037

READY = "ready"
PASSING = ("offline", "connecting", "authorizing")  # that a phone may be in for a moment

_HINTS = {
    "unauthorized": "accept the key on the phone's screen, then run again",
    "authorizing": "wait a moment; accept the key on the phone's screen if it asks",
    "connecting": "wait a moment, then run again",
    "offline": "unplug the cable and plug it in again (adb reconnect offline), then run again",
    "recovery": "boot the phone to its home screen: adb -s SERIAL reboot",
    "sideload": "boot the phone to its home screen: adb -s SERIAL reboot",
    "rescue": "boot the phone to its home screen: adb -s SERIAL reboot",
    "bootloader": "boot the phone to its home screen: fastboot reboot",
    "fastboot": "boot the phone to its home screen: fastboot reboot",
    "no permissions": (
        "let this user open the phone's USB device: a udev rule (package android-sdk-platform-tools-common), "
        "then unplug and plug it in again"
    ),
    "detached": "give the phone back to the adb server: adb attach",
    "host": "this is a computer's adb server, no phone: use adb:SERIAL",
}


def server_port() -> int:
    """Return the port of the adb server: that of ``ANDROID_ADB_SERVER_PORT``, else 5037.

    Raises:
        InputError: if the variable holds no port.
    """
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", "") or str(DEFAULT_PORT)
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise InputError(f"ANDROID_ADB_SERVER_PORT is {port[:40]!r}", hint="it must be a number from 1 to 65535")
    return int(port)


def state_name(state: str) -> str:
    """Return our name of a state of adb's: ``ready`` for ``device``, the others as they are."""
    return READY if state == "device" else state


def state_hint(state: str, serial: str) -> str:
    """Return what to do about a state; empty for one that is ready."""
    if state in ("device", READY):
        return ""
    serial = serial.rpartition(":")[2] if serial.startswith("adb+usb:") else serial.removeprefix("adb:")
    unknown = "unplug the cable and plug it in again, then run again"
    return _HINTS.get(state, unknown).replace("SERIAL", serial)
