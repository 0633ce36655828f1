"""A Jetson's clocks and alerts around what runs there: told to people, and kept with what was timed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from dfmobile.devices.board_conditions import (
    BoardConditions,
    clocks_not_locked,
    read_board_conditions,
    throttled_between,
)
from dfmobile.devices.device import Device
from dfmobile.errors import DeviceError

_KEPT = ("power_mode", "cpu_locked", "gpu_locked", "emc_locked", "throttling", "throttle_events")


class BoardWatch:
    """Looks at a board before and after a batch; at a device that is no Jetson, not at all.

    Args:
        device: any.
        tell: told, once, which clocks are free to move, and each time that the board slowed down.
        root: folder on the device that stands for ``/``; for tests.
    """

    def __init__(self, device: Device, tell: Callable[[str], None], root: str = "") -> None:
        self._device, self._tell, self._root = device, tell, root
        self._before: BoardConditions | None = None
        self._warned = False

    def before(self) -> dict[str, Any] | None:
        """Look; return what rows keep of it, JSON values; None where there is nothing to see."""
        self._before = self._look()
        if self._before is None:
            return None
        free = clocks_not_locked(self._before)
        if free is not None and not self._warned:
            self._warned = True
            self._tell(f"{free[0]}; {free[1]}")
        document = self._before.to_dict()
        return {name: document[name] for name in _KEPT if name in document}

    def after(self) -> None:
        """Look again, and tell if the board slowed down meanwhile."""
        after = None if self._before is None else self._look()
        if self._before is None or after is None:
            return
        signs = throttled_between(self._before, after)
        if signs:
            self._tell(
                f"{self._device.uri} slowed itself down while it measured ({', '.join(signs)}): cool it, or choose a "
                "lower power mode"
            )

    def _look(self) -> BoardConditions | None:
        # What cannot be asked now, a board that restarts, the batch meets too, and can do something about it.
        with contextlib.suppress(DeviceError):
            if self._device.profile.jetson is not None:
                return read_board_conditions(self._device.transport, root=self._root)
        return None
