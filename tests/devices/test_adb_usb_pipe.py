"""Direct USB against a made-up libusb: what is sent, what is kept, and what is said. No phone was at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

pytest.importorskip("usb1", reason="libusb1 is not installed (dfmobile[adb])")
pytest.importorskip("adb_shell", reason="adb-shell is not installed (dfmobile[adb])")

import usb1
from adb_shell.exceptions import AdbTimeoutError

from dfmobile.devices.device import open_device
from dfmobile.devices.transport import adb_usb_pipe
from dfmobile.devices.transport.adb_usb import AdbUsbTransport
from dfmobile.devices.transport.adb_usb_pipe import UsbPipe
from dfmobile.errors import DeviceError, InputError

PACKET_BYTES = 512


@dataclass
class Endpoint:
    address: int

    def getAddress(self) -> int:  # noqa: N802 - libusb1's names
        return self.address

    def getMaxPacketSize(self) -> int:  # noqa: N802
        return PACKET_BYTES


@dataclass
class Setting:
    kind: tuple[int, int, int] = (0xFF, 0x42, 0x01)

    def getClass(self) -> int:  # noqa: N802
        return self.kind[0]

    def getSubClass(self) -> int:  # noqa: N802
        return self.kind[1]

    def getProtocol(self) -> int:  # noqa: N802
        return self.kind[2]

    def getNumber(self) -> int:  # noqa: N802
        return 3

    def iterEndpoints(self) -> Iterator[Endpoint]:  # noqa: N802
        yield Endpoint(0x81)
        yield Endpoint(0x02)


@dataclass
class Handle:
    written: list[bytes] = field(default_factory=list)
    reads: list[bytes | Exception] = field(default_factory=list)
    claimed: bool = False
    closed: bool = False
    busy: bool = False
    sends_at_once: int = 1 << 20

    def claimInterface(self, number: int) -> None:  # noqa: N802
        if self.busy:
            raise usb1.USBErrorBusy
        self.claimed = number == 3

    def releaseInterface(self, number: int) -> None:  # noqa: N802
        self.claimed = False

    def close(self) -> None:
        self.closed = True

    def bulkWrite(self, endpoint: int, data: bytes, timeout: int) -> int:  # noqa: N802
        assert endpoint == 0x02
        assert timeout > 0
        self.written.append(bytes(data[: self.sends_at_once]))
        return len(self.written[-1])

    def bulkRead(self, endpoint: int, size: int, timeout: int) -> bytearray:  # noqa: N802
        assert endpoint == 0x81
        found = self.reads.pop(0)
        if isinstance(found, Exception):
            raise found
        return bytearray(found[:size])


@dataclass
class Device:
    serial: str = "S1"
    handle: Handle = field(default_factory=Handle)
    open_error: Exception | None = None
    read_error: Exception | None = None
    setting: Setting = field(default_factory=Setting)

    def getSerialNumber(self) -> str:  # noqa: N802
        if self.read_error:
            raise self.read_error
        return self.serial

    def getProduct(self) -> str:  # noqa: N802
        return "Pixel"

    def iterSettings(self) -> Iterator[Setting]:  # noqa: N802
        yield Setting((8, 6, 80))
        yield self.setting

    def open(self) -> Handle:
        if self.open_error:
            raise self.open_error
        return self.handle


@dataclass
class Context:
    devices: list[Device]
    closed: int = 0

    def open(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1

    def getDeviceIterator(self, skip_on_error: bool) -> Iterator[Device]:  # noqa: N802
        return iter([Device("keyboard", setting=Setting((3, 1, 1))), *self.devices])


def plug(monkeypatch: pytest.MonkeyPatch, *devices: Device) -> Context:
    context = Context(list(devices))
    monkeypatch.setattr(adb_usb_pipe.usb1, "USBContext", lambda: context)
    return context


@pytest.mark.parametrize("size", [1, PACKET_BYTES - 1, PACKET_BYTES, 3 * PACKET_BYTES, 40_000])
def test_whole_packets_are_followed_by_an_empty_one(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    device = Device(handle=Handle(sends_at_once=10_000))
    context = plug(monkeypatch, device)
    pipe = UsbPipe("S1")
    pipe.connect(1)
    assert pipe.bulk_write(bytes(size), 1) == size
    assert sum(map(len, device.handle.written)) == size
    assert (device.handle.written[-1] == b"") == (size % PACKET_BYTES == 0)
    pipe.close()
    assert (device.handle.claimed, device.handle.closed, context.closed) == (False, True, 1)
    with pytest.raises(OSError, match="closed"):
        pipe.bulk_read(1, 1)


def test_what_came_before_a_timeout_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    half = usb1.USBErrorTimeout()
    half.received = b"half"
    device = Device(handle=Handle(reads=[b"whole", half, usb1.USBErrorTimeout(), usb1.USBErrorNoDevice()]))
    plug(monkeypatch, device)
    pipe = UsbPipe("S1")
    pipe.connect(1)
    assert pipe.bulk_read(24, 1) == b"whole"
    assert pipe.bulk_read(24, 1) == b"half"
    with pytest.raises(AdbTimeoutError):
        pipe.bulk_read(24, 1)
    with pytest.raises(OSError, match="USB"):
        pipe.bulk_read(24, 1)


@pytest.mark.parametrize(
    ("device", "words", "hint"),
    [
        (
            Device(handle=Handle(busy=True)),
            r"adb\+usb:S1 is busy",
            "use adb:S1, or stop the server with: adb kill-server",
        ),
        (Device(open_error=usb1.USBErrorAccess()), "may not be opened by this user", "udev rule"),
        (Device(open_error=usb1.USBErrorIO()), "cannot be opened", "plug it in again"),
        (Device(read_error=usb1.USBErrorAccess()), r"adb\+usb:S1 is not on USB", "udev rule"),
        (Device("OTHER"), r"adb\+usb:S1 is not on USB", "on USB are: adb+usb:OTHER"),
        (None, r"adb\+usb:S1 is not on USB", "plug the phone in"),
    ],
)
def test_phones_that_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch, device: Device | None, words: str, hint: str
) -> None:
    context = plug(monkeypatch, *([device] if device else []))
    with pytest.raises(DeviceError, match=words) as caught:
        open_device("adb+usb:S1")
    assert hint in caught.value.hint
    assert context.closed == 1  # nothing stays open


def test_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(
        monkeypatch,
        Device("FREE"),
        Device("HELD", Handle(busy=True)),
        Device(read_error=usb1.USBErrorAccess()),
    )
    found = [(item.uri, item.state, item.description, item.hint) for item in AdbUsbTransport.enumerate()]
    assert [item[:3] for item in found] == [("adb+usb:FREE", "ready", "Pixel"), ("adb+usb:HELD", "busy", "Pixel")]
    assert "adb:HELD" in found[1][3]
    with pytest.raises(InputError, match="the serial is missing") as caught:
        open_device("adb+usb:")
    assert "adb+usb:FREE (Pixel, ready), adb+usb:HELD (Pixel, busy)" in caught.value.hint


def test_a_listing_that_fails_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(skip_on_error: bool) -> Iterator[Device]:
        raise usb1.USBErrorIO

    context = plug(monkeypatch)
    monkeypatch.setattr(context, "getDeviceIterator", refuse)
    for ask in (AdbUsbTransport.enumerate, lambda: open_device("adb+usb:S1")):
        with pytest.raises(DeviceError, match="cannot be listed") as caught:
            ask()
        assert "lsusb" in caught.value.hint
    assert context.closed == 2
