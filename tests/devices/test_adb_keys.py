"""The key by which a phone knows this computer."""

from __future__ import annotations

import base64
import os
import stat
import struct
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed (dfmobile[adb])")

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from dfmobile.devices.transport.adb_keys import key_path, load_or_make_key
from dfmobile.errors import DeviceError, StorageError


def numbers(public_text: bytes) -> tuple[int, int, int, int, int]:
    """Take Android's form of a public key apart: words, -1/n, n, R^2 mod n, exponent."""
    words, inverse, modulus, square, exponent = struct.unpack("<II256s256sI", base64.b64decode(public_text.split()[0]))
    return words, inverse, int.from_bytes(modulus, "little"), int.from_bytes(square, "little"), exponent


def test_a_new_key(tmp_path: Path) -> None:
    path = tmp_path / "android" / "adbkey"
    key = load_or_make_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["adbkey", "adbkey.pub"]
    assert path.with_name("adbkey.pub").read_bytes() == key.public_text() + b"\n"
    assert load_or_make_key(path).public_text() == key.public_text()  # and is used again


def test_what_the_phone_computes(tmp_path: Path) -> None:
    key = load_or_make_key(tmp_path / "adbkey")
    words, inverse, n, square, exponent = numbers(key.public_text())
    assert (words, n.bit_length(), exponent) == (64, 2048, 65537)
    assert (inverse * n + 1) % (1 << 32) == 0
    assert square == pow(2, 4096, n)
    token = os.urandom(20)
    rsa.RSAPublicNumbers(exponent, n).public_key().verify(
        key.sign(token),
        token,
        padding.PKCS1v15(),
        utils.Prehashed(hashes.SHA1()),  # noqa: S303 - the protocol's
    )
    assert len(key.public_text().split()) == 2


def test_a_key_that_others_can_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "adbkey"
    load_or_make_key(path)
    path.chmod(0o644)
    load_or_make_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(DeviceError, match="can be read by other users") as caught:
        load_or_make_key(path)
    assert caught.value.hint.startswith(f"chmod 600 {path}")


@pytest.mark.parametrize("content", [b"", b"nonsense", "ec", "small"])
def test_files_that_are_no_key(tmp_path: Path, content: bytes | str) -> None:
    if isinstance(content, str):
        private = (
            ec.generate_private_key(ec.SECP256R1())
            if content == "ec"
            else rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
        )
        content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "adbkey").write_bytes(content)
    with pytest.raises(DeviceError, match="is no ") as caught:
        load_or_make_key(tmp_path / "adbkey")
    assert "move it away" in caught.value.hint
    assert (tmp_path / "adbkey").read_bytes() == content


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        load_or_make_key(tmp_path / "file" / "adbkey")


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ADB_VENDOR_KEYS", raising=False)
    assert key_path() == tmp_path / ".android" / "adbkey"
    monkeypatch.setenv("ADB_VENDOR_KEYS", f"{tmp_path}/one:{tmp_path}/two")
    assert key_path() == tmp_path / "one"
    (tmp_path / "one").mkdir()
    assert key_path() == tmp_path / "one" / "adbkey"


def test_a_place_that_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", closed)
    with pytest.raises(StorageError, match="adbkey"):
        load_or_make_key(tmp_path / "adbkey")


def test_nobody_without_a_home_gets_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ADB_VENDOR_KEYS", raising=False)
    monkeypatch.setattr(Path, "home", lost)
    with pytest.raises(DeviceError, match="home") as caught:
        load_or_make_key()
    assert "ADB_VENDOR_KEYS" in caught.value.hint
