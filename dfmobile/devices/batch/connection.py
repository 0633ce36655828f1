"""Gets a lost connection back, within a time; knows nothing of runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from dfmobile.devices.transport.base import (
    AnotherDeviceError,
    CommandTimeoutError,
    ConnectionLostError,
    Transport,
    UnauthorizedError,
)
from dfmobile.errors import DeviceError

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_TELL_FROM_S = 2.0  # a pause: after some four seconds
_UNAUTHORIZED_S = 60.0  # it may pass through this state when it starts, and someone may accept the key
_ALIVE_S = 20.0
_TRIES = 5

T = TypeVar("T")


class Connection:
    """A transport that may break.

    Args:
        transport: one with a method ``reconnect()`` gets its connection back by it, another by being used again.
        limit_s: longest time to try.
        say: told what happens.
        run_id: for the hint when it does not come back.
    """

    def __init__(self, transport: Transport, limit_s: float, say: Callable[[str], None], run_id: str) -> None:
        self.reconnects = 0
        self._transport = transport
        self._limit_s = limit_s
        self._say = say
        self._run_id = run_id

    def is_lost(self) -> bool:
        """Tell whether an error may come from a lost connection: a transport may fail in what it does about it."""
        try:
            self._transport.run(["true"], timeout_s=_ALIVE_S)
        except (ConnectionLostError, CommandTimeoutError):
            return True
        except DeviceError:
            return False
        return False

    def recover(self, error: DeviceError) -> None:
        """Get the connection back.

        Raises:
            ConnectionLostError: if it does not come back in time.
            AnotherDeviceError: if another device is at its address.
            UnauthorizedError: if it is there and goes on refusing this computer's key.
            DeviceError: if the transport was closed.
        """
        if self._transport.closed:
            raise error
        uri = self._transport.uri
        self._say(f"the connection to {uri} is lost; the run goes on there; trying to get it back")
        deadline = time.monotonic() + self._limit_s
        pause_s, told = _FIRST_PAUSE_S, ""
        refused_s: float | None = None  # since when
        while True:
            try:
                reconnect = getattr(self._transport, "reconnect", None)
                if reconnect is not None:
                    reconnect()
                self._transport.run(["true"], timeout_s=_ALIVE_S)
            except AnotherDeviceError:
                raise
            except DeviceError as again:
                now_s = time.monotonic()
                if not isinstance(again, UnauthorizedError):
                    refused_s = None
                elif refused_s is None:
                    refused_s = now_s
                if self._transport.closed or (refused_s is not None and now_s - refused_s >= _UNAUTHORIZED_S):
                    raise
                if time.monotonic() + pause_s > deadline:
                    raise ConnectionLostError(
                        f"the connection to {uri} did not come back in {self._limit_s:.0f} s: {again}",
                        hint="connect it and run the same command again; what the device still does is the run "
                        f"{self._run_id} (dfmobile devices clean --device {uri} ends it)",
                    ) from error
                if pause_s >= _TELL_FROM_S and str(again) != told:
                    told = str(again)  # perhaps there is something to do: a key to accept, a server to start
                    self._say(f"not back yet: {again}" + (f" ({again.hint})" if again.hint else ""))
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self.reconnects += 1
                self._say("the connection is back")
                return

    def steadily(self, action: Callable[[], T]) -> T:
        """Do something that may be done twice, connection lost or not; return what it returns.

        Raises:
            DeviceError: if it fails otherwise, or the connection is lost again and again.
        """
        for _ in range(_TRIES):
            try:
                return action()
            except (ConnectionLostError, CommandTimeoutError) as error:
                self.recover(error)
        return action()
