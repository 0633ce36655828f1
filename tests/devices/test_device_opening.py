"""Opening and listing devices by URI."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from dfmobile import registry
from dfmobile.cli.main import app
from dfmobile.devices import device as device_module
from dfmobile.devices.device import list_devices, open_device
from dfmobile.devices.transport.base import DeviceListing
from dfmobile.devices.transport.local import LocalTransport
from dfmobile.errors import DeviceError, InputError


def test_local() -> None:
    with open_device(" local ") as device:
        assert device.uri.text == "local"
        assert isinstance(device.transport, LocalTransport)
        assert device.profile is device.profile  # probed once
        assert device.fingerprint == open_device("local").fingerprint
        assert device.transport.run(["echo", "x"], timeout_s=10).text == "x"
    with pytest.raises(DeviceError, match="closed"):
        device.transport.run(["echo"], timeout_s=10)


@pytest.mark.parametrize("text", ["adb:SERIAL", "adb+tcp:host:5555", "ssh:me@board"])
def test_a_transport_that_is_not_there(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "names", lambda group: ["local"])
    with pytest.raises(DeviceError, match=r"no transport for '.*' is in this version of dfmobile") as caught:
        open_device(text)
    assert caught.value.hint == "available here: local"


def test_no_device() -> None:
    with pytest.raises(InputError, match="is not a device"):
        open_device("phone")


def test_this_machine_is_listed_first() -> None:
    listed = list_devices()
    assert (listed[0].uri, listed[0].state) == ("local", "ready")


def test_a_transport_that_fails_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(LocalTransport):
        @classmethod
        def enumerate(cls) -> list[object]:  # type: ignore[override]
            raise DeviceError("no adb server", hint="start one")

    monkeypatch.setattr(registry, "names", lambda group: ["adb", "local"])
    monkeypatch.setattr(registry, "load", lambda group, name: Failing if name == "adb" else LocalTransport)
    listed = list_devices()
    assert [(item.uri, item.state) for item in listed] == [("local", "ready"), ("adb:", "error")]
    assert (listed[1].description, listed[1].hint) == ("no adb server", "start one")


def test_an_entry_point_that_is_no_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda group, name: int)
    with pytest.raises(DeviceError, match="not a subclass"):
        device_module.open_device("local")


def test_what_a_device_says_of_itself_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may look like markup, and hold anything."""
    listing = DeviceListing("adb:1", "ready", "[/red] [bold]Phone\x1b[2J :fire:", "")
    monkeypatch.setattr("dfmobile.devices.device.list_devices", lambda: [listing])
    shown = CliRunner().invoke(app, ["devices"])
    assert shown.exit_code == 0
    assert "[/red] [bold]Phone [2J :fire:" in shown.stdout
