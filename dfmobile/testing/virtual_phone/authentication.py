"""Keys of ADB: is this signature of a token by that public key? Bytes and text only.

Android's public key is a struct in base64: number of 32-bit words, -1/n[0] mod 2^32, modulus and R^2 little-endian,
exponent. A signature is PKCS#1 v1.5 over the token taken as a SHA-1 digest.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from dataclasses import dataclass

TOKEN_BYTES = 20
_MODULUS_BYTES = 256
_KEY = struct.Struct(f"<II{_MODULUS_BYTES}s{_MODULUS_BYTES}sI")
_SHA1_DIGEST_INFO = bytes.fromhex("3021300906052b0e03021a05000414")


@dataclass(frozen=True)
class PublicKey:
    """A public RSA key of 2048 bits.

    Attributes:
        modulus: n.
        exponent: e.
    """

    modulus: int
    exponent: int

    def verifies(self, token: bytes, signature: bytes) -> bool:
        """True if the signature is of this token by this key."""
        if len(token) != TOKEN_BYTES or len(signature) != _MODULUS_BYTES:
            return False
        number = int.from_bytes(signature, "big")
        if number >= self.modulus:
            return False
        found = pow(number, self.exponent, self.modulus).to_bytes(_MODULUS_BYTES, "big")
        tail = _SHA1_DIGEST_INFO + token
        wanted = b"\x00\x01" + b"\xff" * (_MODULUS_BYTES - 3 - len(tail)) + b"\x00" + tail
        return hmac.compare_digest(found, wanted)


def parse_public_key(text: str) -> PublicKey | None:
    """Read a line of ``adbkey.pub``; None if it is no key."""
    words = text.strip().strip("\0").split()
    if not words:
        return None
    try:
        raw = base64.b64decode(words[0], validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != _KEY.size:
        return None
    count, _, modulus, _, exponent = _KEY.unpack(raw)
    number = int.from_bytes(modulus, "little")
    if count != _MODULUS_BYTES // 4 or number.bit_length() != _MODULUS_BYTES * 8 or exponent not in (3, 65537):
        return None
    return PublicKey(number, exponent)
