"""The host's side of a batch run: sends items, looks for results, survives what happens to the connection.

The run belongs to the device: it goes on while this side is away, and another ``Batch`` with the same run id and
items takes over where this one ended. Nothing is run twice and nothing is lost, except that an item that was cut off
(the device restarted, the driver was killed) begins again.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone

from dfmobile.devices.batch.base import (
    MAX_ITEMS,
    BatchDamagedError,
    BatchItem,
    BatchProgress,
    BatchResult,
    BatchSettings,
    Counters,
    RunOnDevice,
    check_run_id,
)
from dfmobile.devices.batch.bundle import Poll
from dfmobile.devices.batch.connection import Connection
from dfmobile.devices.batch.leftovers import runs_on_device
from dfmobile.devices.batch.manifest import (
    ALONE_BYTES,
    PlannedItem,
    control_part,
    items_part,
    next_part,
    plan_digest,
    plan_items,
)
from dfmobile.devices.batch.remote import RemoteDriver
from dfmobile.devices.transport.base import CommandTimeoutError, ConnectionLostError, TransferError, Transport
from dfmobile.errors import DeviceError, InputError

DEFAULT_SETTINGS = BatchSettings()
_MAX_STALLS = 5  # starts of the driver, or damaged answers, without one new result
_MAX_DAMAGES = 3  # of one item's result
_MAX_LOSSES = 50  # of the connection, without one answer in between
_STOP_WAIT_S = 3600.0
_FIRST_WORD_S = 2.0
_SLACK_S = 600.0
_LOOK_ITEMS = 64


class Batch:
    """A list of programs that a device runs by itself.

    Args:
        transport: to the device; one with a method ``reconnect()`` gets its connection back by it.
        settings: how the batch runs.
        run_id: of an earlier run, to go on with it; None: a new one.

    Attributes:
        run_id: by which the run can be taken up again.
        counters: what the run had to survive.

    Raises:
        InputError: if the run id cannot be one.
    """

    def __init__(
        self, transport: Transport, settings: BatchSettings = DEFAULT_SETTINGS, *, run_id: str | None = None
    ) -> None:
        if run_id is None:
            run_id = f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        self.run_id = check_run_id(run_id)
        self.counters = Counters()
        self._transport = transport
        self._settings = settings
        self._driver = RemoteDriver(transport, self.run_id, settings.folder, settings.system_root)
        self._connection = Connection(transport, settings.reconnect_s, self._say, self.run_id)
        self._tell: Callable[[BatchProgress], None] = _nothing
        self._items: dict[str, PlannedItem] = {}
        self._pending: dict[str, PlannedItem] = {}  # without a result here, in the order of the list
        self._waiting: list[PlannedItem] = []  # not on the device yet
        self._there: set[str] = set()  # contents on the device
        self._boot = "unknown"
        self._current: str | None = None

    def run(
        self, items: Sequence[BatchItem], on_progress: Callable[[BatchProgress], None] | None = None
    ) -> Iterator[BatchResult]:
        """Run the items that have not run yet, and yield the results of all, each once, as they come.

        When the last result was taken, the run is removed from the device. Where this ends earlier (Ctrl-C, a closed
        iterator, a lost connection), the device goes on by itself; ``clean_up`` stops it. After an error that the
        user has to see to, it ends with the item that runs.

        Args:
            items: in the order in which they run.
            on_progress: called after each look at the device, and with what there is to tell.

        Raises:
            InputError: if two items have one id, or the run on the device has other items of these ids.
            StorageError: if a file cannot be read.
            PhoneLockedError: if another run is on the device.
            ConnectionLostError: if the connection did not come back in ``reconnect_s``.
            DeviceError: if the device has no space, is read-only, or the driver ends again and again.
        """
        if len(items) > MAX_ITEMS:
            raise InputError(f"{len(items)} items are more than a batch can have ({MAX_ITEMS})")
        planned = plan_items(items)
        self._items = {entry.item.id: entry for entry in planned}
        self._pending = dict(self._items)
        self._tell = on_progress or _nothing
        return self._results()

    def _results(self) -> Iterator[BatchResult]:
        attached = False
        stalls = losses = 0
        news_s = time.monotonic()
        damages: dict[str, int] = {}
        while self._pending:
            try:
                if not attached:
                    self._attach()
                    attached = True
                sent = self._send_next()
                poll = self._look()
                losses = 0
            except (ConnectionLostError, CommandTimeoutError) as error:
                losses += 1
                if losses > _MAX_LOSSES:
                    raise
                self._connection.recover(error)
                attached = False
                continue
            except (BatchDamagedError, TransferError) as error:
                stalls += 1
                if stalls > _MAX_STALLS:
                    raise
                self._say(f"{error}; asking again")
                attached = False
                continue
            except DeviceError as error:
                if self._connection.is_lost():
                    losses += 1
                    if losses > _MAX_LOSSES:
                        raise
                    self._connection.recover(error)
                    attached = False
                    continue
                told = self._driver.diagnose(error)
                # The user has to do something first: do not keep the device from others meanwhile.
                with contextlib.suppress(DeviceError):
                    self._driver.stop("after-item")
                if told is error:
                    raise
                raise told from error
            self.counters.polls += 1
            self.counters.reconnects = self._connection.reconnects
            self._current = poll.current if poll.alive else None
            fresh = self._accept(poll)
            for name in poll.damaged:
                damages[name] = damages.get(name, 0) + 1
            for result in fresh:
                stalls = 0
                self._progress()
                yield result
            if not self._pending:
                break
            attached = self._repair(damages)
            if not poll.exists or not poll.alive or _changed(self._boot, poll.boot):
                # Ended, killed, or gone with a restart: what has no result is run by a new one.
                attached = False
                if poll.state.startswith("failed") and not _changed(self._boot, poll.boot):
                    raise self._given_up(poll)
                if not fresh:
                    stalls += 1
                if stalls > _MAX_STALLS:
                    raise self._given_up(poll)
            elif fresh or sent:
                news_s = time.monotonic()
            elif time.monotonic() - news_s > self._patience_s():
                raise DeviceError(
                    f"the run {self.run_id} does not get on: {poll.current or 'nothing'} runs, long past its time",
                    hint="see what the device does, or stop the run: "
                    f"dfmobile devices clean --device {self._transport.uri} --run {self.run_id} --stop",
                )
            else:
                self._progress()
                time.sleep(self._settings.poll_s)
        self._current = None
        self._connection.steadily(self.clean_up)
        self._progress()

    def clean_up(self) -> None:
        """Stop the run if it still runs, and remove it and its lock from the device; nothing there is no error.

        Raises:
            DeviceError: if the device cannot be reached or refuses.
        """
        self._driver.prepare()
        self._driver.remove()

    @staticmethod
    def runs(transport: Transport, folder: str | None = None) -> list[RunOnDevice]:
        """Return the runs that a device still holds, oldest first.

        Raises:
            DeviceError: if the device cannot be asked.
        """
        return runs_on_device(transport, folder)

    # How it goes

    def _attach(self) -> None:
        """Find out what the device has, bring the plan, and see to it that a driver works on it."""
        driver, settings = self._driver, self._settings
        driver.prepare([path for path, _ in settings.shared_files], self._sending("shared files"))
        there = driver.have()
        self._check_same({**there.ready, **there.done})
        if there.last_boot != "none" and _changed(there.last_boot, there.boot):
            self.counters.reboots += 1
            self._say("the device restarted: its run is gone, the items without a result are run again")
            driver.reset()
            there = driver.have()
        self._boot = there.boot
        planned = list(self._items.values())
        plan = plan_digest(settings, planned)
        if there.plan != plan:
            if there.alive:
                self._say("the run on the device has another plan: waiting for its item to end")
                driver.stop("after-item")
                self._await_end()
                there = driver.have()
            driver.unpack(*control_part(settings, planned, _owner(), plan))
        self._there = there.files
        self._waiting = [entry for name, entry in self._items.items() if name not in {**there.ready, **there.done}]
        if not there.alive and any(name not in there.done for name in self._pending):
            driver.start()
            self.counters.starts += 1
        if not self._waiting and self._pending and not there.complete:
            # The one before us may not have come to saying that all is there.
            driver.unpack(*items_part([], driver.run_folder, self._there, last=True)[:2])

    def _patience_s(self) -> float:
        """Return how long there may be no news: the longest item, its cooling, and what a slow device takes beside."""
        cool = self._settings.cool_down
        longest_s = max(entry.item.timeout_s for entry in self._pending.values())
        return longest_s + (cool.longest_wait_s if cool is not None else 0.0) + _SLACK_S

    def _check_same(self, digests: dict[str, str]) -> None:
        for name, digest in digests.items():
            entry = self._items.get(name)
            if entry is not None and digest not in ("-", entry.digest):
                raise InputError(
                    f"the run {self.run_id} on {self._transport.uri} has another item called {name}",
                    hint="take a new run id, or remove the run: "
                    f"dfmobile devices clean --device {self._transport.uri} --run {self.run_id}",
                )

    def _await_end(self) -> None:
        deadline = time.monotonic() + _STOP_WAIT_S
        while self._driver.have().alive:
            if time.monotonic() > deadline:
                raise DeviceError(
                    f"the run {self.run_id} does not end", hint="remove it with `dfmobile devices clean --stop`"
                )
            time.sleep(self._settings.poll_s)

    def _send_next(self) -> bool:
        """Send the next part, if there is one."""
        if not self._waiting:
            return False
        driver = self._driver
        first = len(self._waiting) == len(self._items) and not self._settings.push_first
        count = next_part(self._waiting, self._there, first)
        part = self._waiting[:count]
        for entry in part:
            for sha256, path, name, size in entry.files:
                if size > ALONE_BYTES and sha256 not in self._there:
                    driver.push_content(path, sha256, self._sending(name))
                    self._there.add(sha256)
        last = count == len(self._waiting)
        data, sha256, there = items_part(part, driver.run_folder, self._there, last)
        driver.unpack(data, sha256)
        self._there = there
        del self._waiting[:count]
        return True

    def _look(self) -> Poll:
        """Look at the run. Where the answer is not whole, ask for one item after another, to find the damaged one.

        Raises:
            BatchDamagedError: if an answer is not whole that brings no result.
        """
        limit = self._settings.log_limit_bytes
        try:
            return self._driver.poll(list(self._pending), limit)
        except BatchDamagedError:
            found = self._driver.poll([], limit)
        for name in list(self._pending)[:_LOOK_ITEMS]:
            try:
                one = self._driver.poll([name], limit)
            except BatchDamagedError:
                found.damaged.append(name)
                continue
            found.results += one.results
            found.digests.update(one.digests)
            found.damaged += one.damaged
            if not one.results and not one.damaged:
                break  # it did not run yet, nor did those after it
        return found

    def _accept(self, poll: Poll) -> list[BatchResult]:
        """Return the results that are ours and new; note those that are another item's."""
        fresh = []
        for result in poll.results:
            entry = self._pending.get(result.id)
            if entry is None:
                continue
            if poll.digests[result.id] != entry.digest:
                raise InputError(f"the run {self.run_id} has another item called {result.id}", hint="take a new run id")
            del self._pending[result.id]
            fresh.append(result)
        return fresh

    def _repair(self, damages: dict[str, int]) -> bool:
        """Have items run again whose result stays damaged; False where the driver has to begin anew for that.

        Raises:
            BatchDamagedError: if this happens to one item again and again.
        """
        fine = True
        for name, count in list(damages.items()):
            if name not in self._pending:
                del damages[name]
            elif count >= _MAX_DAMAGES * _MAX_STALLS:
                raise BatchDamagedError(
                    f"the result of {name} is damaged again and again", hint="is the device's storage failing?"
                )
            elif count % _MAX_DAMAGES == 0:
                # Not the way here: three looks gave the same. Counted on, so that the next look does not repeat it.
                damages[name] = count + 1
                self._say(f"the result of {name} is damaged on the device: it is run again")
                self._connection.steadily(functools.partial(self._driver.forget, name))
                fine = False
        return fine

    def _given_up(self, poll: Poll) -> DeviceError:
        said = poll.state.removeprefix("failed ") if poll.state.startswith("failed ") else self._driver.log_tail()
        error = DeviceError(
            f"the driver on the device ends again and again without a result{': ' if said else ''}{said}",
            hint=self._driver.hint_of(said) or f"what is done is kept; the run is {self.run_id}",
        )
        return self._driver.diagnose(error)

    # Words

    def _say(self, message: str) -> None:
        self.counters.notes.append(message)
        del self.counters.notes[:-1000]
        self._progress(message)

    def _progress(self, message: str = "") -> None:
        total = len(self._items)
        self._tell(BatchProgress(self.run_id, total - len(self._pending), total, self._current, message))

    def _sending(self, name: str) -> Callable[[int, int], None]:
        """Return what tells of a transfer: after two seconds, four, eight … A quick one is not worth a line."""
        due_s, pause_s = time.monotonic() + _FIRST_WORD_S, _FIRST_WORD_S

        def tell(done: int, total: int) -> None:
            nonlocal due_s, pause_s
            if total >= 2**20 and time.monotonic() >= due_s:
                due_s, pause_s = time.monotonic() + pause_s, 2 * pause_s
                self._progress(f"sending {name}: {100 * done // max(total, 1)} % of {total / 2**20:.0f} MiB")

        return tell


def _nothing(progress: BatchProgress) -> None:
    """Tell nobody."""


def _changed(before: str, now: str) -> bool:
    """Tell whether the device restarted in between; where it does not name its boots, this is not known."""
    return "unknown" not in (before, now) and before != now


def _owner() -> str:
    """Return who runs this: printable, one line, short."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "someone"
    name = f"{user}@{platform.node() or 'unknown'}"
    return "".join(letter for letter in name if letter.isalnum() or letter in "@._-")[:100] or "someone"
