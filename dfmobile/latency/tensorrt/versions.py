"""Versions of TensorRT: as people, packages and trtexec's banner write them, and what ONNX each takes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dfmobile.errors import FileFormatError, quoted

# "8.2.1", "8.2.1.8", "v10.3", "8.5.3-1+cuda11.8" (Debian's package of it).
_DOTTED = re.compile(r"v?([0-9]{1,3})\.([0-9]{1,3})(?:\.([0-9]{1,3}))?(?:\.[0-9]{1,6})?(?:[-+~ ].{0,60})?")
# trtexec's banner: major·1000 + minor·100 + patch up to 9.x, major·10000 + minor·100 + patch from 10.0 on.
_CODE = re.compile(r"v?([0-9])([0-9])([0-9]{2})|v?([0-9]{2})([0-9]{2})([0-9]{2})")

# The newest opset of the ONNX parser that comes with a version, from the first line of docs/operators.md of
# onnx-tensorrt's release branches: (from this version on, opset). 10.1 to 10.14 say no more than 10.0's document, so
# the figure is the one that surely holds.
_OPSETS = (
    ((0, 0, 0), 7),
    ((6, 0, 0), 10),
    ((7, 0, 0), 11),
    ((8, 0, 0), 13),
    ((8, 4, 0), 17),
    ((9, 0, 0), 19),
    ((10, 0, 0), 20),
    ((10, 15, 0), 24),
)


@dataclass(frozen=True, order=True)
class TensorRTVersion:
    """A version of TensorRT; ordered.

    Attributes:
        major: e.g. 8.
        minor: e.g. 2.
        patch: e.g. 1; the fourth number, a build, is not kept.
    """

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> TensorRTVersion:
        """Read a version.

        Args:
            text: ``"8.2.1"``, ``"8.2.1.8"``, ``"8.2.1-1+cuda10.2"``, or the code of trtexec's banner with or without
                its ``v``: ``"v8201"`` is 8.2.1, ``"v101601"`` is 10.16.1.

        Raises:
            FileFormatError: if it is none of these.
        """
        stripped = text.strip()
        if code := _CODE.fullmatch(stripped):
            numbers = code.groups()[:3] if code[1] is not None else code.groups()[3:]
        elif dotted := _DOTTED.fullmatch(stripped):
            numbers = dotted.groups()
        else:
            raise FileFormatError(
                f"{quoted(text)} is no version of TensorRT", hint="write it like 8.2.1, or like trtexec's banner: v8201"
            )
        return cls(int(numbers[0]), int(numbers[1]), int(numbers[2] or 0))

    @property
    def text(self) -> str:
        """``"8.2.1"``."""
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def max_onnx_opset(self) -> int:
        """The newest ONNX opset that its parser takes (source: see ``_OPSETS``)."""
        return max(opset for since, opset in _OPSETS if (self.major, self.minor, self.patch) >= since)
