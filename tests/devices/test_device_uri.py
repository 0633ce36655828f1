"""Device URIs read back what they write, and refuse everything else in one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.devices.uri import parse_device
from dfmobile.errors import InputError

WORDS = st.from_regex(r"[a-z0-9_][a-z0-9._\-]{0,15}", fullmatch=True)
PORTS = st.integers(1, 65535)


@pytest.mark.parametrize(
    ("text", "scheme", "address", "canonical"),
    [
        ("local", "local", "", "local"),
        (" local\n", "local", "", "local"),
        ("adb:89KX0ABCD", "adb", "89KX0ABCD", "adb:89KX0ABCD"),
        ("adb:192.168.1.7:5555", "adb", "192.168.1.7:5555", "adb:192.168.1.7:5555"),
        ("adb+usb:89KX0ABCD", "adb+usb", "89KX0ABCD", "adb+usb:89KX0ABCD"),
        ("adb+tcp:phone.lan:5555", "adb+tcp", "phone.lan:5555", "adb+tcp:phone.lan:5555"),
        ("adb+tcp:[fe80::1%wlan0]:5555", "adb+tcp", "[fe80::1%wlan0]:5555", "adb+tcp:[fe80::1%wlan0]:5555"),
        ("ssh:me@board", "ssh", "me@board:22", "ssh:me@board:22"),
        ("ssh:me@board:0022", "ssh", "me@board:22", "ssh:me@board:22"),
        ("ssh:me@[::1]", "ssh", "me@[::1]:22", "ssh:me@[::1]:22"),
        ("ssh:me@[::1]:2222", "ssh", "me@[::1]:2222", "ssh:me@[::1]:2222"),
    ],
)
def test_forms(text: str, scheme: str, address: str, canonical: str) -> None:
    uri = parse_device(text)
    assert (uri.scheme, uri.address, uri.text) == (scheme, address, canonical)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Local",
        "local:",
        "local:1",
        "phone",
        "adb",
        "adb:",
        "adb:-s",
        "adb+usb:",
        "adb+usb:-s",
        "adb:a b",
        "adb:x;reboot",
        "adb+tcp:host",
        "adb+tcp::5555",
        "adb+tcp:host:0",
        "adb+tcp:host:65536",
        "adb+tcp:host:٥",
        "adb+tcp:-host:1",
        "ssh:host",
        "ssh://me@host",
        "ssh:@host",
        "ssh:-oProxyCommand=x@host",
        "ssh:me@",
        "ssh:me@-host",
        "ssh:me@::1",
        "ssh:me@[::1]x",
        "ssh:me@host:",
        "ssh:me@you@host",
        "usb:1",
        "adb:" + "x" * 200,
        "ssh:me@" + "x" * 1000,
    ],
)
def test_everything_else_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_device(text)
    assert "local, adb:SERIAL, adb+tcp:HOST:PORT, adb+usb:SERIAL, ssh:USER@HOST[:PORT]" in caught.value.hint
    assert "\n" not in str(caught.value)


@given(WORDS, WORDS, PORTS)
def test_parts_come_back(user: str, host: str, port: int) -> None:
    uri = parse_device(f"ssh:{user}@{host}:{port}")
    assert (uri.user, uri.host, uri.port) == (user, host, port)
    tcp = parse_device(f"adb+tcp:{host}:{port}")
    assert (tcp.user, tcp.host, tcp.port) == (None, host, port)


@given(st.text(max_size=60) | st.from_regex(r"\A(adb|adb\+tcp|ssh):[ -~]{0,40}\Z"))
def test_canonical_or_refused(text: str) -> None:
    try:
        uri = parse_device(text)
    except InputError:
        return
    assert parse_device(uri.text) == uri
    assert str(uri) == uri.text
