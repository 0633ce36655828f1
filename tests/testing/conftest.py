"""Virtual phones for tests, and clients for them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from adb_program import AdbProgram

from dfmobile.errors import DeviceError
from dfmobile.testing.virtual_phone import VirtualPhone


@pytest.fixture
def start_phone(tmp_path: Path) -> Iterator[Callable[..., VirtualPhone]]:
    """Start phones: ``start_phone(mode="old", ...)``; they stop with the test."""
    with contextlib.ExitStack() as stack:

        def start(name: str = "phone", **options: Any) -> VirtualPhone:
            try:
                return stack.enter_context(VirtualPhone(tmp_path / name, **options))
            except DeviceError as error:
                pytest.skip(f"skipped: no virtual phone: {error}")

        yield start


@pytest.fixture
def adb(tmp_path: Path) -> Iterator[AdbProgram]:
    if shutil.which("adb") is None:
        pytest.skip("skipped: the adb program is not installed (Debian: apt-get install adb)")
    home = tmp_path / "home"
    home.mkdir()
    program = AdbProgram(home)
    yield program
    program("kill-server")
