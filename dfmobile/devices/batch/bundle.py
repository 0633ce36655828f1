"""Read what the driver answers: the state of a run, and results with their checksums. Untrusted bytes.

Whatever does not fit is a ``BatchDamagedError``; a result is only given out where its record and its log are what
the driver wrote. Pure bytes: no transport is touched here.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from dfmobile.devices.batch.base import BatchDamagedError, BatchResult

_START = b"dfmobile-poll 1\n"
_DATA = b"\ndata\n"
_END = b"\ndfmobile-end\n"
_MAX_HEADER_BYTES = 2**20
_MAX_RECORD_BYTES = 2**20
_ID = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}"
_DONE = re.compile(
    rf"done (?P<id>{_ID}) (?P<digest>[0-9a-f]{{16}}) (?P<code>[0-9]{{1,3}}) (?P<log>[0-9]{{1,10}}) "
    r"(?P<log_sum>[0-9]{1,10}) (?P<record>[0-9]{1,7}) (?P<record_sum>[0-9]{1,10}) end"
)
_DAMAGED = re.compile(rf"damaged ({_ID})")
_CPU = re.compile(r"cpu ([0-9]{1,4}) ([0-9]{1,9})")
_ZONE = re.compile(r"zone ([0-9]{1,4}) (-?[0-9]{1,7}) ([!-~]{1,64})")
_UPTIME = re.compile(r"uptime ([0-9]{1,10}\.[0-9]{1,3})")
_CLOCK = re.compile(r"clock ([0-9]{1,11}) ([0-9]{1,10}\.[0-9]{1,3})")
_COOL = re.compile(r"cool ([0-9]{1,9}) ([01]) (-?[0-9]{1,8})")
_CHARGER = re.compile(r"charger ([!-~]{1,64}) ([A-Za-z ]{1,32})")
_EXIT = re.compile(r"exit ([0-9]{1,3}) ([01])")
_PROFILE = re.compile(r"profile (none|[A-Za-z0-9_]{1,64} (absent|exit [0-9]{1,3}))")
_SCREEN = re.compile(r"screen ([A-Za-z]{1,32})")
_ATTEMPT = re.compile(r"attempt ([0-9]{1,3})")
_TIME_LIMIT = 253_402_300_799  # the last second of the year 9999

_REVERSED_BITS = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def posix_cksum(data: bytes) -> int:
    """Return the checksum that ``cksum`` prints (POSIX: CRC-32, highest bit first, the length appended)."""
    length, tail = len(data), bytearray()
    while length:
        tail.append(length & 0xFF)
        length >>= 8
    # zlib's CRC takes the lowest bit first, and starts with all ones where POSIX starts with zeros.
    reflected = zlib.crc32(
        bytes(tail).translate(_REVERSED_BITS), zlib.crc32(data.translate(_REVERSED_BITS), 0xFFFFFFFF)
    )
    return int(f"{reflected:032b}"[::-1], 2)


@dataclass
class Poll:
    """One look at a run.

    Attributes:
        exists: the run is there.
        boot: names this boot of the device, or ``unknown``.
        alive: the driver runs.
        state: its last word: ``running``, ``finished``, ``starved``, ``stopped``, ``failed …``, ``none``.
        current: id of the item that runs.
        results: checked ones.
        digests: of the items of the results.
        damaged: ids of items whose result is not what the driver wrote.
    """

    exists: bool = True
    boot: str = "unknown"
    alive: bool = False
    state: str = "none"
    current: str | None = None
    results: list[BatchResult] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)


def parse_poll(data: bytes) -> Poll:
    """Read the answer to a poll.

    Raises:
        BatchDamagedError: if it is not whole.
    """
    if not data.startswith(_START) or not data.endswith(_END):
        raise BatchDamagedError("the device's answer was cut short", hint=_HINT)
    split = data.find(_DATA, 0, _MAX_HEADER_BYTES)
    if split < 0:
        raise BatchDamagedError("the device's answer has no data", hint=_HINT)
    lines = data[len(_START) : split].decode("ascii", "replace").split("\n")
    body = data[split + len(_DATA) : len(data) - len(_END)]
    poll = Poll()
    headers: list[re.Match[str]] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if line == "gone":
            poll.exists = False
        elif word == "boot":
            poll.boot = rest[:64]
        elif word == "driver":
            poll.alive = rest == "1"
        elif word == "state":
            poll.state = rest[:300]
        elif word == "current":
            poll.current = rest if re.fullmatch(_ID, rest) else None
        elif found := _DAMAGED.fullmatch(line):
            poll.damaged.append(found[1])
        elif found := _DONE.fullmatch(line):
            headers.append(found)
        else:
            raise BatchDamagedError(f"the device's answer has a line that says {line[:80]!r}", hint=_HINT)
    if sum(int(header["log"]) + int(header["record"]) for header in headers) != len(body):
        raise BatchDamagedError(f"the device's answer brought {len(body)} bytes, not as many as it says", hint=_HINT)
    place = 0
    for header in headers:
        record = body[place : place + int(header["record"])]
        place += len(record)
        log = body[place : place + int(header["log"])]
        place += len(log)
        name = header["id"]
        if name in poll.digests:
            raise BatchDamagedError(f"the device's answer has item {name} twice", hint=_HINT)
        try:
            poll.results.append(_result(header, record, log))
            poll.digests[name] = header["digest"]
        except BatchDamagedError:
            poll.damaged.append(name)
    return poll


def _result(header: re.Match[str], record: bytes, log: bytes) -> BatchResult:
    """Check the bytes of a result and put it together."""
    if posix_cksum(log) != int(header["log_sum"]) or posix_cksum(record) != int(header["record_sum"]):
        raise BatchDamagedError("its checksum differs")
    if len(record) > _MAX_RECORD_BYTES:
        raise BatchDamagedError("its record is too long")
    lines = record.decode("ascii", "replace").split("\n")
    if lines[0] != f"record 1 {header['id']} {header['digest']}" or lines[-2:] != ["end", ""]:
        raise BatchDamagedError("its record is not whole")
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    clock: tuple[int, float] | None = None
    code: int | None = None
    for line in lines[1:-2]:
        word, _, rest = line.partition(" ")
        if word in ("before", "after"):
            _condition(before if word == "before" else after, rest)
        elif found := _CLOCK.fullmatch(line):
            clock = (int(found[1]), float(found[2]))
        elif found := _ATTEMPT.fullmatch(line):
            before["attempt"] = int(found[1])
        elif (found := _PROFILE.fullmatch(line)) and found[1] != "none":
            before["task_profile"] = found[1]
        elif (found := _SCREEN.fullmatch(line)) and found[1] != "unknown":
            before["screen"] = found[1]
        elif line == "gave_up":
            after["attempts_failed"] = True
        elif found := _EXIT.fullmatch(line):
            code = int(found[1])
            after["timed_out"] = found[2] == "1"
    if code is None or code != int(header["code"]) or code > 255:
        raise BatchDamagedError("its exit code is not certain")
    for conditions in (before, after):
        if clock is not None and "uptime_s" in conditions:
            seconds = clock[0] + conditions["uptime_s"] - clock[1]
            if 0 <= seconds < _TIME_LIMIT:
                moment = datetime.fromtimestamp(seconds, timezone.utc)
                conditions["time_utc"] = moment.isoformat(timespec="milliseconds")
    return BatchResult(header["id"], code, log, before, after)


def _condition(conditions: dict[str, Any], text: str) -> None:
    """Take in one reading; one that is none is left out, as an unreadable one is."""
    if found := _CPU.fullmatch(text):
        conditions.setdefault("frequency_khz", {})[int(found[1])] = int(found[2])
    elif found := _ZONE.fullmatch(text):
        zones = conditions.setdefault("temperature_mc", {})
        name = found[3] if found[3] not in zones else f"{found[3]}#{found[1]}"
        zones[name] = int(found[2])
    elif found := _UPTIME.fullmatch(text):
        conditions["uptime_s"] = float(found[1])
    elif found := _COOL.fullmatch(text):
        conditions["cool_down"] = {
            "waited_s": int(found[1]) / 100,
            "reached": found[2] == "1",
            "hottest_mc": int(found[3]),
        }
    elif found := _CHARGER.fullmatch(text):
        conditions.setdefault("charger", {})[found[1]] = found[2]


_HINT = "run the command again; if it happens again, check the connection (cable, port, network)"
