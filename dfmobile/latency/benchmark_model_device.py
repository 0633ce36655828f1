"""The tool ``benchmark_model`` on a device: is it there, does it start, what does it know; and batches that run it.

Knows devices and batches, no models and no measurements.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from dfmobile.devices.batch import (
    Batch,
    BatchItem,
    BatchProgress,
    BatchResult,
    BatchSettings,
    CoolDown,
    PhoneLockedError,
)
from dfmobile.devices.batch.connection import Connection
from dfmobile.devices.device import Device
from dfmobile.devices.elf import check_program
from dfmobile.errors import BackendError, DeviceError, InputError
from dfmobile.files import sha256_hex
from dfmobile.latency.benchmark_model_log import STAND_IN_GREETING
from dfmobile.latency.benchmark_model_options import BenchmarkOptions
from dfmobile.latency.benchmark_model_outputs import FLAG

_TOOL = "benchmark_model"
_RUN_PREFIX = "bm"
_ACTIVE: set[str] = set()  # ids of the runs that this process is taking results of


class ToolOnDevice:
    """The user's binary on a device.

    Args:
        device: any.
        options: of the backend.
        mask: of the cores that it is pinned to; None: not pinned.
        tell: told what people should know.
        poll_s: how often to look at the device.
        batch_class: ``Batch``, or a double in tests.

    Attributes:
        sha256: of the binary.
        busy: a batch of it is on the device: nothing else of it may run, and would disturb.

    Raises:
        BackendError: if it is not there, or was built for another processor.
        DeviceError: if the device is gone.
    """

    def __init__(
        self,
        device: Device,
        options: BenchmarkOptions,
        mask: str | None,
        tell: Callable[[str], None],
        poll_s: float,
        batch_class: type[Batch],
    ) -> None:
        self.device, self.options, self.tell, self.busy = device, options, tell, False
        self._mask, self._poll_s, self.batch_class = mask, poll_s, batch_class
        self._looked = False  # for what killed processes left on the device
        self.sha256 = self._find_binary()

    def _find_binary(self) -> str:
        """Check that the tool is there and fits the device; return its SHA-256."""
        if self.options.on_device:
            found = self.device.transport.stat(self.options.binary)
            if found is None or found.kind != "file":
                raise BackendError(
                    f"there is no file {self.options.binary} on {self.device.uri}",
                    hint="push it there and make it executable, or name a file of this machine: binary=FILE",
                )
            return self.device.transport.sha256(self.options.binary)
        path = Path(self.options.binary)
        if not path.is_file():
            raise BackendError(
                f"there is no file {path}", hint="name the tool: --backend-option binary=FILE or binary=device:/…"
            )
        check_program(path, self.device.profile.abi)
        return sha256_hex(path)

    def _check_unchanged(self) -> None:
        """Refuse a binary that was replaced meanwhile: rows of two would stand under the hash of one."""
        if not self.options.on_device and self._find_binary() != self.sha256:
            raise BackendError(
                f"{self.options.binary} has changed since this measurement began",
                hint="run the command again; a table takes measurements of one binary only",
            )

    @cached_property
    def help_text(self) -> str:
        """What the tool prints when asked for help, or for want of a model: its flags, and that it runs at all."""
        result = self.run_one(BatchItem("help", (self.program, "--help"), timeout_s=60.0))
        text = result.log.decode("utf-8", "replace")
        if "--graph" not in text:
            last = " | ".join(line.strip()[:200] for line in text.strip().splitlines()[-3:]) or "nothing"
            raise BackendError(
                f"{self.options.binary} does not behave like benchmark_model on {self.device.uri}: it ended with "
                f"{result.exit_code} and printed: {last}",
                hint="is it benchmark_model, built for this device, and executable?",
            )
        return text

    @cached_property
    def greeting(self) -> str:
        """What the tool says of itself; the stock ones say nothing, our stand-in says what it is."""
        lines = self.help_text.splitlines()
        found = next((line.strip() for line in lines[:20] if line.strip().startswith(STAND_IN_GREETING)), "")
        return found[:200]

    @cached_property
    def writes_outputs(self) -> bool:
        """Whether this version of the tool can write a model's outputs, and the user wants them compared."""
        return self.options.outputs and f"--{FLAG}" in self.help_text

    @property
    def program(self) -> str:
        """Its path on the device, as a batch's item names it."""
        return self.options.binary if self.options.on_device else f"{{run}}/{_TOOL}"

    def run_one(self, item: BatchItem) -> BatchResult:
        """Run one item on the device; see ``run``."""
        results = list(self.run([item]))  # to its end: the run is removed from the device with its last result
        if len(results) != 1:
            raise BackendError(f"{self.device.uri} returned {len(results)} results for one item")
        return results[0]

    def run(self, items: Sequence[BatchItem]) -> Generator[BatchResult]:
        """Run items on the device; what ends early, however that is, is removed from there.

        Raises:
            PhoneLockedError: if someone else's run is there; one of ours whose process is gone makes way.
            DeviceError: see ``Batch.run``.
        """
        if self.busy:
            raise BackendError("this backend is measuring already", hint="take all results of one call first")
        self._check_unchanged()
        if not self._looked:
            self._looked = True
            with contextlib.suppress(DeviceError):  # the batch meets it too, and can do something about it
                self._remove_orphans()
        for last_try in (False, True):
            run_id = f"{_RUN_PREFIX}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
            batch = self.batch_class(self.device.transport, self._settings(), run_id=run_id)
            _ACTIVE.add(run_id)
            self.busy = True
            try:
                yield from batch.run(items, self._progress)
            except PhoneLockedError:
                line = Connection(self.device.transport, self.options.reconnect_secs, self.tell, run_id)
                with contextlib.suppress(DeviceError):  # that it is locked is what to tell
                    line.steadily(batch.clean_up)  # what was sent before the lock was seen
                if last_try or not line.steadily(self._remove_orphans):
                    raise
            except BaseException:
                with contextlib.suppress(DeviceError):  # the first error is the one to tell
                    batch.clean_up()
                raise
            else:
                return
            finally:
                self.busy = False
                _ACTIVE.discard(run_id)

    def _progress(self, step: BatchProgress) -> None:
        if step.message:
            self.tell(step.message)

    def _remove_orphans(self) -> bool:
        """Remove runs of this machine and user whose process is gone: they fill the device, or hold its lock.

        Returns:
            Whether there were any.
        """
        found = False
        for run in self.batch_class.runs(self.device.transport):
            parts = run.run_id.split("-")
            if len(parts) != 4 or parts[:2] != [_RUN_PREFIX, _host()] or not parts[2].isdigit():
                continue
            mine = int(parts[2]) == os.getpid()
            if run.run_id not in _ACTIVE if mine else not _alive(int(parts[2])):
                self.tell(f"removing the run {run.run_id} from the device: the process that started it is gone")
                self.batch_class(self.device.transport, self._settings(), run_id=run.run_id).clean_up()
                found = True
        return found

    def _settings(self) -> BatchSettings:
        binary = () if self.options.on_device else ((Path(self.options.binary), _TOOL),)
        return BatchSettings(
            affinity_mask=self._mask,
            shared_files=binary,
            task_profile=self.options.task_profile,
            cool_down=self._cool_down(),
            spin_up_ms=self.options.spin_up_ms,
            poll_s=self._poll_s,
            reconnect_s=self.options.reconnect_secs,
        )

    def _cool_down(self) -> CoolDown | None:
        limit_c = self.options.cool_down_c
        if limit_c is None:
            return None
        zones = [zone.type for zone in self.device.profile.thermal_zones]
        chosen = tuple(zone for zone in zones if any(word in zone.lower() for word in ("cpu", "gpu", "soc")))
        if not chosen:
            raise InputError(
                "option cool-down: the device's profile has no thermal zone of CPU, GPU or SoC",
                hint="leave the option out; dfmobile profile --device shows what can be read",
            )
        return CoolDown(chosen, round(1000 * limit_c), self.options.cool_down_secs)


def _host() -> str:
    """Return what stands for this machine and user; a container counts process ids by itself, so it is another."""
    counts_by = ""
    with contextlib.suppress(OSError):
        counts_by = os.readlink("/proc/self/ns/pid")
    user = os.getuid() if hasattr(os, "getuid") else 0
    return sha256(f"{platform.node()} {user} {counts_by}".encode()).hexdigest()[:8]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
