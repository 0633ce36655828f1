"""The driver on a device, as the host speaks to it: one small command a request. Knows no order of things."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.resources
import re
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

from dfmobile.devices.batch.base import BatchDamagedError, PhoneLockedError, RunOnDevice
from dfmobile.devices.batch.bundle import Poll, parse_poll
from dfmobile.devices.transport.base import (
    CommandResult,
    CommandTimeoutError,
    ConnectionLostError,
    OnProgress,
    Transport,
)
from dfmobile.errors import DeviceError
from dfmobile.files import sha256_hex

_REQUEST_S = 60.0
_UNPACK_S = 600.0
_POLL_ARGUMENTS_BYTES = 2000  # old daemons take commands of 4096 bytes
_POLL_BYTES = 4 * 2**20
_ID = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}"
_READY = re.compile(rf"(ready|done) ({_ID}) ([0-9a-f]{{16}}|-)")
_FILE = re.compile(r"file ([0-9a-f]{64})")
_RUN = re.compile(
    r"run ([A-Za-z0-9][A-Za-z0-9_\-]{0,63}) ([01]) (-?[0-9]{1,12}) ([0-9]{1,9}) ([0-9]{1,9}) (\S{1,40}) (.{0,200})"
)
_LOCKED = re.compile(r"locked ([0-9]{1,10}) (\S{1,64}) (unknown|-?[0-9]{1,12}) (.{0,200})")

# Everything that is asked before the driver is there. $1: the folder; $2: whether to note that a run uses the store;
# then names that the store should have.
_PREPARE = """
# Others may write beside it: what they put there is not followed.
[ ! -L "$1" ] || { echo "$1 is a link" >&2; exit 1; }
[ -d "$1" ] || mkdir -p "$1" || exit 1
[ -O "$1" ] || { echo "$1 belongs to another user" >&2; exit 1; }
chmod 700 "$1"; mkdir -p "$1/store" "$1/runs" || exit 1
[ "$2" = look ] || : >"$1/store/used" || exit 1
cd "$1/store" || exit 1
for program in tar mv ln sleep date; do
  command -v "$program" >/dev/null || { echo "the device has no $program" >&2; exit 1; }
done
for program in cksum sha256sum; do
  "$program" </dev/null >/dev/null 2>&1 || { echo "the device has no $program" >&2; exit 1; }
done
shift 2
for name; do [ ! -f "$name" ] || sha256sum "$name"; done
"""
# $1: the folder; $2: seconds: used since, a command may be between two runs, and nothing is removed. rmdir takes an
# empty folder only, so no run that came meanwhile is removed.
_REMOVE_ALL = """
used=$(stat -c %Y "$1/store/used" 2>/dev/null) || used=0
[ $(($(date +%s) - used)) -ge "$2" ] || exit 0
rmdir "$1/runs" && rm -rf "$1"
"""
# $1: the folder; $2: a name that nobody can guess, since others may write there.
_DIAGNOSE = """
cd "$1" 2>/dev/null || cd "${1%/*}" || exit 0
df -k . 2>/dev/null
dd if=/dev/zero of="$2" bs=65536 count=4 2>&1
rm -f "$2"
"""


@dataclass
class Inventory:
    """What a device has of a run.

    Attributes:
        boot: names this boot; ``unknown`` where the device does not say.
        last_boot: the boot in which the driver was last started; ``none`` where never.
        alive: the driver runs.
        plan: digest of the plan that it has, or ``none``.
        complete: it was told that nothing more comes.
        files: SHA-256 of contents.
        ready: items that are there whole, to their digests.
        done: items that have a result, to their digests.
    """

    boot: str = "unknown"
    last_boot: str = "none"
    alive: bool = False
    plan: str = "none"
    complete: bool = False
    files: set[str] = field(default_factory=set)
    ready: dict[str, str] = field(default_factory=dict)
    done: dict[str, str] = field(default_factory=dict)


class RemoteDriver:
    """One run's driver.

    Args:
        transport: to the device.
        run_id: a checked one; a placeholder for requests that concern none.
        folder: on the device; None: the transport's own folder in its scratch root.
        system_root: prefix of ``/proc`` and ``/sys``.
    """

    def __init__(self, transport: Transport, run_id: str, folder: str | None = None, system_root: str = "") -> None:
        self.transport = transport
        self.run_id = run_id
        own = f"{transport.scratch_root.rstrip('/')}/{transport.scratch_name}"
        self.base = (own if folder is None else folder).rstrip("/")
        self.run_folder = f"{self.base}/runs/{run_id}"
        self._root = system_root
        self._script = driver_script()
        self._path = f"{self.base}/store/{hashlib.sha256(self._script).hexdigest()}"

    def prepare(
        self, shared: Sequence[Path] = (), on_progress: OnProgress | None = None, *, only_look: bool = False
    ) -> None:
        """Make the folders; bring the driver and the shared files into the store where they are not there whole.

        Args:
            shared: files of this machine.
            on_progress: told of transfers.
            only_look: for no run: this is no use of the store, see ``remove_all``.

        Raises:
            DeviceError: if the device lacks a program that the driver needs, or has no space.
            StorageError: if a shared file cannot be read.
        """
        wanted = {sha256_hex(path): path for path in shared}
        name = self._path.rpartition("/")[2]
        there: set[str] = set()
        names = [name, *wanted]
        for start in range(0, len(names), 16):
            chunk = names[start : start + 16]
            result = self.transport.run(
                ["sh", "-c", _PREPARE, "sh", self.base, "look" if only_look else "use", *chunk], timeout_s=_UNPACK_S
            )
            hint = ""
            if b"another user" in result.stderr:
                hint = "remove it as its owner, or restart the device's adbd as that user"
            elif b"is a link" in result.stderr:
                hint = "remove it, if you know who made it"
            result.check(f"preparing {self.base} on the device", hint)
            words = (line.split() for line in result.text.splitlines())
            there |= {line[0] for line in words if len(line) == 2 and line[0] == line[1]}
        if name not in there:
            with tempfile.NamedTemporaryFile(prefix="dfmobile-driver-") as local:
                local.write(self._script)
                local.flush()
                self.transport.push(Path(local.name), self._path, mode=0o755)
        for sha256, path in wanted.items():
            if sha256 not in there:
                self.transport.push(path, f"{self.base}/store/{sha256}", mode=0o755, on_progress=on_progress)

    def push_content(self, path: Path, sha256: str, on_progress: OnProgress | None) -> None:
        """Send a large file into the run's folder.

        Raises:
            DeviceError: if it changed since it was planned, or did not arrive.
        """
        transfer = self.transport.push(path, f"{self.run_folder}/files/{sha256}", mode=0o755, on_progress=on_progress)
        if transfer.sha256 != sha256:
            self.transport.remove(f"{self.run_folder}/files/{sha256}")
            raise DeviceError(f"{path} changed while it was sent", hint="run the command again")

    def have(self) -> Inventory:
        """Return what the device has of the run.

        Raises:
            BatchDamagedError: if the answer is not whole.
        """
        lines = self._ask("have").stdout.decode("ascii", "replace").split("\n")
        if lines[-2:] != ["end", ""]:
            raise BatchDamagedError("the device's answer was cut short", hint="run the command again")
        found = Inventory()
        for line in lines[:-2]:
            word, _, rest = line.partition(" ")
            if word == "boot":
                found.boot = rest[:64]
            elif word == "last":
                found.last_boot = rest[:64]
            elif word == "driver":
                found.alive = True
            elif word == "plan":
                found.plan = rest[:64]
            elif line == "complete":
                found.complete = True
            elif entry := _READY.fullmatch(line):
                (found.ready if entry[1] == "ready" else found.done)[entry[2]] = entry[3]
            elif content := _FILE.fullmatch(line):
                found.files.add(content[1])
        return found

    def unpack(self, data: bytes, sha256: str) -> None:
        """Send a part.

        Raises:
            DeviceError: if it did not arrive or the device has no space.
        """
        self._expect(self._ask("unpack", sha256, stdin=data, timeout_s=_UNPACK_S), "ok")

    def start(self) -> None:
        """Start the driver, detached; where it runs already, nothing happens.

        Raises:
            PhoneLockedError: if another run is on the device.
            DeviceError: if it cannot start.
        """
        answer = self._ask("start", secrets.token_hex(6))
        if locked := _LOCKED.match(answer.text):
            age = "" if locked[3] == "unknown" else f" {duration(float(locked[3]))} ago"
            raise PhoneLockedError(
                f"{self.transport.uri} is in use: {locked[4]} started the run {locked[2]}{age}",
                hint=f"wait for it to end, or stop it: dfmobile devices clean --device {self.transport.uri} "
                f"--run {locked[2]} --stop",
            )
        self._expect(answer, "started")

    def poll(self, ids: Sequence[str], log_limit_bytes: int) -> Poll:
        """Look at the run, and fetch results of those of the items that are done.

        Args:
            ids: wanted items; as many as fit into a command are asked for.
            log_limit_bytes: of one item.

        Raises:
            BatchDamagedError: if the answer is not whole.
        """
        asked: list[str] = []
        size = 0
        for item in ids:
            size += len(item) + 3
            if asked and size > _POLL_ARGUMENTS_BYTES:
                break
            asked.append(item)
        limit = log_limit_bytes + 2 * 2**20 + _POLL_BYTES
        return parse_poll(self._ask("poll", str(_POLL_BYTES), *asked, output_limit_bytes=limit).stdout)

    def reset(self) -> None:
        """Forget what was sent and not run: after a crash of the device it may be damaged."""
        self._ask("reset").check("clearing the run on the device")

    def forget(self, item: str) -> None:
        """Forget a damaged result, so that the item runs again."""
        self._ask("forget", item).check(f"removing the damaged result of {item}")

    def stop(self, when: Literal["after-item", "now"]) -> None:
        """Stop the driver."""
        self._ask("stop", when).check("stopping the run on the device")

    def remove(self) -> None:
        """Stop the driver and remove the run, and the lock if it is this run's."""
        self._ask("remove").check("removing the run from the device")

    def remove_all(self, unused_s: int = 0) -> None:
        """Remove the folder with all that is stored, if it holds no run: another host may begin just now.

        Args:
            unused_s: only if no run used it for this long.
        """
        with contextlib.suppress(DeviceError):
            self.transport.run(["sh", "-c", _REMOVE_ALL, "sh", self.base, str(unused_s)], timeout_s=_REQUEST_S)

    def runs(self) -> list[RunOnDevice]:
        """Return the runs that the device holds, oldest first.

        Raises:
            BatchDamagedError: if the answer is not whole.
        """
        lines = self._ask("runs").stdout.decode("utf-8", "replace").split("\n")
        if lines[-2:] != ["end", ""]:
            raise BatchDamagedError("the device's answer was cut short", hint="run the command again")
        found = []
        for line in lines[:-2]:
            if entry := _RUN.fullmatch(line):
                state: Literal["running", "finished", "interrupted"] = "interrupted"
                if entry[2] == "1":
                    state = "running"
                elif entry[6] == "finished":
                    state = "finished"
                age_s = max(0.0, float(entry[3]))
                owner = "".join(letter for letter in entry[7] if letter.isprintable()).strip()  # goes to a terminal
                found.append(RunOnDevice(entry[1], state, owner, age_s, int(entry[4]), int(entry[5])))
        return sorted(found, key=lambda run: (-(run.age_s or 0.0), run.run_id))

    def diagnose(self, error: DeviceError) -> DeviceError:
        """Return a clearer error where the device's storage is full or read-only, else the error itself."""
        if isinstance(error, (ConnectionLostError, CommandTimeoutError, PhoneLockedError)):
            return error
        with contextlib.suppress(DeviceError):
            argv = ["sh", "-c", _DIAGNOSE, "sh", self.base, f".dfmobile-{secrets.token_hex(8)}"]
            text = self.transport.run(argv, timeout_s=_REQUEST_S).text
            text = f"{error}\n{text}"
            if re.search("read-only file system|file system is read-only", text, re.IGNORECASE):
                return DeviceError(
                    f"{self.base} on the device is read-only",
                    hint="restart the device; a storage that turns read-only is often damaged or not unlocked yet",
                )
            if re.search("no space left|quota exceeded", text, re.IGNORECASE):
                return DeviceError(
                    f"no space left on the device: {_free(text)} free for {self.base}",
                    hint="free some space (`dfmobile devices clean` removes old runs), then run the same command "
                    "again: what is done is kept",
                )
        return error

    def hint_of(self, words: str) -> str:
        """Return what to do about the driver's reason to end; empty where that is not known."""
        if not words.startswith("taskset "):
            return ""
        return (
            f"dfmobile profile --device {self.transport.uri} shows its cores: name some that are there, "
            "--backend-option cluster=NAME, or do not pin, cluster=none"
        )

    def log_tail(self) -> str:
        """Return the last words of the driver, for an error's message."""
        with contextlib.suppress(DeviceError):
            path = f"{self.run_folder}/driver.log"
            result = self.transport.run(["tail", "-n", "3", path], timeout_s=_REQUEST_S, output_limit_bytes=65536)
            return " ".join(result.text.split())[-300:]
        return ""

    def _ask(
        self,
        request: str,
        *arguments: str,
        stdin: bytes = b"",
        timeout_s: float = _REQUEST_S,
        output_limit_bytes: int = 32 * 2**20,
    ) -> CommandResult:
        argv = ["sh", self._path, request, self.base, self.run_id, self._root, *arguments]
        result = self.transport.run(argv, timeout_s=timeout_s, stdin=stdin, output_limit_bytes=output_limit_bytes)
        if result.stdout.startswith(b"error "):
            self._refuse(request, result)
        return result

    def _expect(self, result: CommandResult, word: str) -> None:
        if result.exit_code != 0 or result.text.partition(" ")[0] != word:
            self._refuse(result.argv[2], result)

    def _refuse(self, request: str, result: CommandResult) -> NoReturn:
        said = result.text.removeprefix("error ").splitlines()
        words = " ".join((said[0] if said else "no answer").split())[:300]
        hint = self.hint_of(words) or "run the command again; if it happens again, restart the device"
        raise DeviceError(f"{request} of the batch run {self.run_id} failed on the device: {words}", hint)


@functools.cache
def driver_script() -> bytes:
    """Return the script that runs on devices, put together from its three files."""
    folder = importlib.resources.files(__package__)
    parts = ("driver_common.sh", "driver.sh", "driver_requests.sh")
    return b"\n".join(folder.joinpath(part).read_bytes() for part in parts)


def _free(text: str) -> str:
    """Return the available space as ``df -k`` gives it."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 5 and words[-2].endswith("%") and words[-3].isdigit():
            return f"{int(words[-3]) / 1024:.1f} MiB"
    return "too little"


def duration(seconds: float) -> str:
    """Return a duration for people."""
    seconds = max(0.0, seconds)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
