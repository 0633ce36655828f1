"""The RSA key by which phones know this computer.

The key of Android's own ``adb`` is used where there is one, so a phone that trusts ``adb`` trusts us; else one is
made in its place, and ``adb`` will use ours. Private keys are readable by their owner only.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import socket
import struct
from pathlib import Path
from typing import Any

from dfmobile.errors import DeviceError, import_extra
from dfmobile.files import storage_error

_BITS = 2048  # the only size that Android takes
_PUBLIC = struct.Struct("<II256s256sI")  # words, -1/n mod 2^32, n, 2^4096 mod n, exponent
_FILE_BYTES = 1 << 16


def key_path() -> Path:
    """Return where the key is: the first entry of ``ADB_VENDOR_KEYS``, else ``~/.android/adbkey``."""
    first = os.environ.get("ADB_VENDOR_KEYS", "").split(":")[0]
    if not first:
        return Path.home() / ".android" / "adbkey"
    path = Path(first)
    return path / "adbkey" if path.is_dir() else path


class AdbKey:
    """A private key.

    Args:
        private: of the library cryptography, RSA with 2048 bits.
        comment: who we are, shown on the phone's screen.
    """

    def __init__(self, private: Any, comment: str) -> None:
        self._private = private
        self._comment = comment

    def sign(self, token: bytes) -> bytes:
        """Return the signature of a device's token of 20 bytes, which stands for a SHA-1."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding, utils

        signature: bytes = self._private.sign(token, padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))  # noqa: S303
        return signature

    def public_text(self) -> bytes:
        """Return the public key as Android keeps it: base64 of the numbers that its Montgomery code wants.

        Format: https://android.googlesource.com/platform/system/core/+/refs/heads/main/libcrypto_utils/
        """
        numbers = self._private.public_key().public_numbers()
        n = numbers.n
        inverse = (-pow(n, -1, 1 << 32)) % (1 << 32)
        packed = _PUBLIC.pack(
            _BITS // 32,
            inverse,
            n.to_bytes(_BITS // 8, "little"),
            pow(2, 2 * _BITS, n).to_bytes(_BITS // 8, "little"),
            numbers.e,
        )
        return base64.b64encode(packed) + b" " + self._comment.encode()


def load_or_make_key(path: Path | None = None) -> AdbKey:
    """Return the user's key; make one if there is none.

    Args:
        path: of the private key; ``key_path()`` by default.

    Raises:
        MissingExtraError: if the library cryptography is not installed.
        DeviceError: if the key cannot be used, or others can read it and that cannot be changed.
        StorageError: if it cannot be read or written.
    """
    import_extra("cryptography", "adb", "a key for the phone")
    try:
        place = key_path() if path is None else path
        missing = not place.exists()
    except RuntimeError as error:  # pathlib's: nobody knows where home is
        raise DeviceError(f"there is no place for the key: {error}", hint="set HOME, or ADB_VENDOR_KEYS") from error
    except OSError as error:
        raise storage_error(error, error.filename or "the key", "read") from error
    if missing:
        _make(place)
    return _load(place)


def _load(path: Path) -> AdbKey:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if mode & 0o077:
                _close_to_others(path, stream.fileno())
            content = stream.read(_FILE_BYTES)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    try:
        private = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise DeviceError(f"{path} is no private key without a password", hint=_RENEW.format(path=path)) from error
    if not isinstance(private, rsa.RSAPrivateKey) or private.key_size != _BITS:
        raise DeviceError(f"{path} is no RSA key of {_BITS} bits", hint=_RENEW.format(path=path))
    return AdbKey(private, _comment())


def _close_to_others(path: Path, descriptor: int) -> None:
    try:
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise DeviceError(
            f"the private key {path} can be read by other users",
            hint=f"chmod 600 {path}, or name another key by ADB_VENDOR_KEYS",
        ) from error


def _make(path: Path) -> None:
    """Write a new key and its public half; another process that is faster wins."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    part = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            with contextlib.suppress(FileExistsError):
                os.link(part, path)  # unlike a rename, never over another's key
                public = path.with_name(f"{path.name}.pub")
                public.write_bytes(AdbKey(private, _comment()).public_text() + b"\n")
        finally:
            part.unlink()
    except OSError as error:
        raise storage_error(error, path, "write") from error


def _comment() -> str:
    user = os.environ.get("USER") or "unknown"
    name = f"{user}@{socket.gethostname() or 'unknown'}"
    return "".join(letter for letter in name if letter.isascii() and letter.isprintable() and letter != " ")[:80]


_RENEW = "move it away: a new key is made at the next run, which the phone asks to accept"
