"""A phone without a phone: an ADB daemon on loopback for tests, with faults to switch on."""

from dfmobile.testing.virtual_phone.faults import Faults
from dfmobile.testing.virtual_phone.phone import VirtualPhone

__all__ = ["Faults", "VirtualPhone"]
