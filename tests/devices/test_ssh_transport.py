"""The ssh transport passes the contract of transports over a real sshd; and what is particular to it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
from sshd.sshd_fixture import Sshd

from dfmobile.devices.transport.base import Transport
from dfmobile.devices.transport.ssh import SshTransport
from dfmobile.devices.uri import parse_device
from dfmobile.testing.transport_contract import TransportContract


def opened(server: Sshd) -> SshTransport:
    return SshTransport(parse_device(server.uri), server.config_file)


class TestSshTransport(TransportContract):
    @pytest.fixture
    def transport(self, shared_sshd: Sshd) -> Iterator[Transport]:
        with opened(shared_sshd) as transport:
            yield transport

    @pytest.mark.skipif(
        importlib.util.find_spec("dfmobile.devices.jetson") is None, reason="the probe of Linux boards is not here"
    )
    def test_probe_gives_a_profile(self, transport: Transport) -> None:
        super().test_probe_gives_a_profile(transport)
