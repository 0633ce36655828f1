"""What goes into a batch run on a device and what comes out. Pure data: no transport is touched here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dfmobile.errors import DeviceError, InputError, quoted

TIMED_OUT = 124  # exit code of an item that the driver stopped for its timeout
NOT_ENDED = 125  # exit code of an item that was started several times and never came to its end

MAX_ITEMS = 100_000
MAX_ARGUMENTS_BYTES = 100_000  # of one item; kernels refuse more than 128 KiB in one argument
MAX_TIMEOUT_S = 7 * 24 * 3600.0

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]{0,99}")
_ZONE = re.compile(r"[!-~]{1,64}")
_MASK = re.compile(r"[0-9A-Fa-f]{1,64}")
_PROFILE = re.compile(r"[A-Za-z0-9_]{1,64}")
_RESERVED = ("item.sh",)  # the driver's own file in an item's folder
# The driver's own in a run's folder; besides: answer.NONCE, and NAME.part.
_RESERVED_IN_RUN = (
    "complete", "current", "driver.log", "files", "incoming", "items", "list", "owner", "pid",
    "plan", "results", "room", "screen.txt", "seen", "settings", "state", "stop", "watcher",
)  # fmt: skip


class PhoneLockedError(DeviceError):
    """Another job runs on the device; the message says whose and since when."""


class BatchDamagedError(DeviceError):
    """What the device answered is not what its driver wrote: cut short, changed on the way, or of another version."""


@dataclass(frozen=True)
class BatchItem:
    """One program to run on the device.

    Attributes:
        id: letters, digits, ``_``, ``.``, ``-``; unique within the run.
        argv: program and arguments, any bytes but NUL (undecodable ones by ``surrogateescape``). ``{item}`` stands
            for the item's folder on the device, which is its working folder too, and ``{run}`` for the run's folder,
            where the shared files are.
        files: (file of this machine, name in the item's folder). The same content is sent only once a run.
        timeout_s: seconds after which the device itself stops it, with its children.
    """

    id: str
    argv: tuple[str, ...]
    files: tuple[tuple[Path, str], ...] = ()
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: naming the first that cannot be.
        """
        if not _ID.fullmatch(self.id):
            raise InputError(f"{quoted(self.id)} cannot name an item: letters, digits, '_', '.', '-', at most 100")
        if not self.argv or self.argv[0][:1] in ("", "-") or any("\0" in argument for argument in self.argv):
            raise InputError(f"item {self.id}: a command needs a program, and no argument may hold a NUL")
        if sum(len(argument.encode("utf-8", "surrogateescape")) for argument in self.argv) > MAX_ARGUMENTS_BYTES:
            raise InputError(f"item {self.id}: its arguments are longer than {MAX_ARGUMENTS_BYTES} bytes")
        if not 0 < self.timeout_s <= MAX_TIMEOUT_S:
            raise InputError(f"item {self.id}: a timeout of {self.timeout_s} s is not possible")
        check_file_names([name for _, name in self.files], f"item {self.id}")


@dataclass(frozen=True)
class BatchResult:
    """How an item ended.

    Attributes:
        id: of the item.
        exit_code: its own; 128 + N where signal N killed it; 124 where the driver stopped it for its timeout (then
            ``conditions_after["timed_out"]`` is true, which tells it from an item's own 124); 125 with
            ``conditions_after["attempts_failed"]`` where it never came to an end (it took the device or the driver
            down each time).
        log: its stdout and stderr as they came; at most ``BatchSettings.log_limit_bytes``.
        conditions_before: as the device read them just before: ``frequency_khz`` (core to kHz), ``temperature_mc``
            (thermal zone type to m°C; ``type#index`` where several have one type), ``uptime_s``, ``time_utc`` (ISO
            8601 by the device's clock), ``charger`` (of each supply, text), ``screen`` (text, as it was when the
            driver started: asking takes long), ``attempt``, and ``cool_down`` and ``task_profile`` where asked for.
            What cannot be read is absent.
        conditions_after: likewise.
    """

    id: str
    exit_code: int
    log: bytes
    conditions_before: dict[str, Any]
    conditions_after: dict[str, Any]


@dataclass(frozen=True)
class CoolDown:
    """Wait before each item until the device is cool.

    Attributes:
        zones: types of thermal zones, e.g. ``("cpu-1-0-usr",)``; all that have one of these types count.
        limit_mc: each at most this, in m°C.
        longest_wait_s: then go on all the same; recorded as not reached.
    """

    zones: tuple[str, ...]
    limit_mc: int
    longest_wait_s: float = 120.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: naming the first that cannot be.
        """
        if not self.zones or not all(_ZONE.fullmatch(zone) for zone in self.zones):
            raise InputError("a cool-down needs types of thermal zones, printable and without spaces")
        if not 1000 <= self.limit_mc <= 150_000:
            raise InputError(f"a cool-down limit of {self.limit_mc} m°C is not possible: it is in thousandths of a °C")
        if not 0 <= self.longest_wait_s <= 24 * 3600:
            raise InputError(f"a longest wait of {self.longest_wait_s} s is not possible")


@dataclass(frozen=True)
class BatchSettings:
    """How a batch runs.

    Attributes:
        affinity_mask: cores for the items, hexadecimal without ``0x``, as ``taskset`` takes it; None: left alone.
        shared_files: (file of this machine, name in the run's folder), e.g. the program that all items run. Sent
            once a device: kept there by content for later runs.
        task_profile: e.g. ``"MaxPerformance"``: applied where the device has ``settaskprofile``, and recorded.
        cool_down: before each item; None: none.
        spin_up_ms: after cooling, keep the item's cores busy for this long right before the item, so that their
            clock is up again; 0: none.
        poll_s: seconds between two looks at the device.
        push_first: send all items before the first one runs, so that no transfer disturbs a measurement.
        log_limit_bytes: an item that writes a file larger than this (its log included) is stopped by the kernel
            (exit code 153, or its own).
        max_attempts: an item that took the driver or the device down this many times is not tried again.
        ready_wait_s: the driver ends where the next item has not arrived for this long (the host was lost).
        reconnect_s: after the connection was lost, try for this long to get it back.
        folder: on the device, where runs, lock and store live; None: ``dfmobile`` in the transport's scratch root.
        system_root: prefix of ``/proc`` and ``/sys`` on the device, for tests.
        zones: thermal zone types to record; None: all.
    """

    affinity_mask: str | None = None
    shared_files: tuple[tuple[Path, str], ...] = ()
    task_profile: str | None = None
    cool_down: CoolDown | None = None
    spin_up_ms: int = 0
    poll_s: float = 1.0
    push_first: bool = False
    log_limit_bytes: int = 8 * 2**20
    max_attempts: int = 3
    ready_wait_s: float = 600.0
    reconnect_s: float = 300.0
    folder: str | None = None
    system_root: str = ""
    zones: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: naming the first that cannot be.
        """
        if self.affinity_mask is not None and (
            not _MASK.fullmatch(self.affinity_mask) or int(self.affinity_mask, 16) == 0
        ):
            raise InputError(
                f"{quoted(self.affinity_mask)} is not an affinity mask", hint="hexadecimal, no 0x: 'f0' is cores 4 to 7"
            )
        if self.task_profile is not None and not _PROFILE.fullmatch(self.task_profile):
            raise InputError(f"{quoted(self.task_profile)} cannot name a task profile")
        if not 0 <= self.spin_up_ms <= 60_000:
            raise InputError(f"a spin-up of {self.spin_up_ms} ms is not possible: at most a minute")
        if not 0.001 <= self.poll_s <= 3600:
            raise InputError(f"polling every {self.poll_s} s is not possible")
        if not 4096 <= self.log_limit_bytes <= 2**30:
            raise InputError(f"a log limit of {self.log_limit_bytes} bytes is not possible: 4 KiB to 1 GiB")
        if not 1 <= self.max_attempts <= 100:
            raise InputError(f"{self.max_attempts} attempts are not possible")
        if not 1 <= self.ready_wait_s <= 24 * 3600 or not 0 <= self.reconnect_s <= 24 * 3600:
            raise InputError("the waits for items and for the connection are at most a day")
        for path in (self.folder, self.system_root or None):
            if path is not None and (not path.startswith("/") or "\0" in path or "\n" in path):
                raise InputError(f"{quoted(path)} is not an absolute path of the device")
        if self.zones is not None and not all(_ZONE.fullmatch(zone) for zone in self.zones):
            raise InputError("types of thermal zones are printable and without spaces")
        names = [name for _, name in self.shared_files]
        check_file_names(names, "the shared files")
        for name in names:
            if name in _RESERVED_IN_RUN or name.startswith("answer.") or name.endswith(".part"):
                raise InputError(f"the shared files: {quoted(name)} is a name of the driver's own", hint="take another")


@dataclass(frozen=True)
class BatchProgress:
    """Where a run stands.

    Attributes:
        run_id: of the run.
        done: results that came, earlier ones of a resumed run included.
        total: items.
        current: id of the item that runs now, as of the last look; None where none does.
        message: something to tell the user (the device restarted, the connection is lost); mostly empty.
    """

    run_id: str
    done: int
    total: int
    current: str | None = None
    message: str = ""


@dataclass(frozen=True)
class RunOnDevice:
    """A run that a device still holds.

    Attributes:
        run_id: of the run.
        state: ``running``, ``finished`` (all items ran) or ``interrupted``.
        owner: user and host that started it, as recorded.
        age_s: seconds since its driver was last started, by the device's clock; None where unknown.
        done: items that ended.
        total: items of its list.
    """

    run_id: str
    state: Literal["running", "finished", "interrupted"]
    owner: str
    age_s: float | None
    done: int
    total: int


@dataclass
class Counters:
    """What a run had to survive; for tests and for the log.

    Attributes:
        polls: looks at the device.
        reconnects: times that the connection was lost and came back.
        reboots: times that the device had restarted.
        starts: times that the driver was started.
    """

    polls: int = 0
    reconnects: int = 0
    reboots: int = 0
    starts: int = 0
    notes: list[str] = field(default_factory=list)


def check_run_id(run_id: str) -> str:
    """Return a run id.

    Raises:
        InputError: if it cannot be one.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise InputError(f"{quoted(run_id)} cannot name a run: letters, digits, '_', '-', at most 64")
    return run_id


def check_file_names(names: list[str], what: str) -> None:
    """Refuse names that are no plain file names, or come twice.

    Raises:
        InputError: naming the first.
    """
    for name in names:
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise InputError(f"{what}: {quoted(name)} cannot name a file on the device")
    if len(set(names)) != len(names):
        raise InputError(f"{what}: two files have one name")
