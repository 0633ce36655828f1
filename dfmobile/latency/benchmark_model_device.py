"""The tool ``benchmark_model`` on a device: is it there, does it start, what does it know; and batches that run it.

Knows devices and batches, no models and no measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from pathlib import Path

from dfmobile.devices.batch import Batch, BatchItem, BatchResult, BatchSettings, CoolDown
from dfmobile.devices.device import Device
from dfmobile.devices.elf import check_program
from dfmobile.errors import BackendError, InputError
from dfmobile.files import sha256_hex
from dfmobile.latency.benchmark_model_log import STAND_IN_GREETING
from dfmobile.latency.benchmark_model_options import BenchmarkOptions
from dfmobile.latency.benchmark_model_outputs import FLAG
from dfmobile.latency.device_batches import DeviceBatches

_TOOL = "benchmark_model"
_RUN_PREFIX = "bm"


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
        self.device, self.options = device, options
        self._mask, self._poll_s = mask, poll_s
        self._batches = DeviceBatches(device, _RUN_PREFIX, self._settings, tell, batch_class)
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

    @property
    def busy(self) -> bool:
        """Whether a batch of it is on the device: nothing else of it may run, and would disturb."""
        return self._batches.busy

    def run_one(self, item: BatchItem) -> BatchResult:
        """Run one item on the device; see ``run``."""
        self._check_unchanged()
        return self._batches.run_one(item)

    def run(self, items: Sequence[BatchItem]) -> Generator[BatchResult]:
        """Run items on the device; see ``DeviceBatches.run``."""
        self._check_unchanged()
        yield from self._batches.run(items)

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
