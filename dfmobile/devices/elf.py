"""For which processor a program was built, by the first bytes of its file. Knows no device."""

from __future__ import annotations

from pathlib import Path

from dfmobile.errors import BackendError
from dfmobile.files import storage_error

_HEADER_BYTES = 20
# e_machine of the ELF specification to Android's names of ABIs.
_MACHINES = {3: "x86", 40: "armeabi-v7a", 62: "x86_64", 183: "arm64-v8a", 243: "riscv64"}
# What else a device of an ABI usually runs.
_ALSO_RUNS = {"arm64-v8a": ("armeabi-v7a",), "x86_64": ("x86",)}


def program_abi(path: Path) -> str | None:
    """Return the ABI that a program was built for, as Android names it; None for a script (``#!``).

    Raises:
        BackendError: if it is no program that Linux runs.
        StorageError: if it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            header = stream.read(_HEADER_BYTES)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    if header[:2] == b"#!":
        return None
    if header[:4] != b"\x7fELF" or len(header) < _HEADER_BYTES:
        raise BackendError(
            f"{path} is no program for Android or Linux", hint="name the tool itself, not an archive or a package of it"
        )
    machine = int.from_bytes(header[18:20], "big" if header[5] == 2 else "little")
    return _MACHINES.get(machine, f"machine {machine}")


def check_program(path: Path, device_abi: str | None) -> str | None:
    """Refuse a program that a device cannot run; return the ABI that it was built for.

    Args:
        path: of this machine.
        device_abi: of the device's profile; None where unknown: then nothing is refused.

    Raises:
        BackendError: if it was built for another processor, or is no program.
        StorageError: if it cannot be read.
    """
    abi = program_abi(path)
    if abi is None or device_abi is None or abi == device_abi or abi in _ALSO_RUNS.get(device_abi, ()):
        return abi
    raise BackendError(
        f"{path} was built for {abi}, and the device is {device_abi}", hint=f"get the tool for {device_abi}"
    )
