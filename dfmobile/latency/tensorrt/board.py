"""trtexec on a board: where it is, which TensorRT it runs, and the folder for engines beside it.

Engines and timing caches lie in dfmobile's folder on the device, which ``dfmobile devices clean`` removes. Their folder
is named by the boot, the version and the library: after a restart or an update of TensorRT no engine of before is
taken, and those are removed.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from functools import cached_property

from dfmobile.devices.batch.remote import RemoteDriver
from dfmobile.devices.device import Device
from dfmobile.devices.transport.base import CommandFailedError, ConnectionLostError
from dfmobile.errors import BackendError, DeviceError, FileFormatError
from dfmobile.latency.tensorrt.failures import failure
from dfmobile.latency.tensorrt.log import TrtexecLog, parse_trtexec_log
from dfmobile.latency.tensorrt.versions import TensorRTVersion

USUAL_PATH = "/usr/src/tensorrt/bin/trtexec"
_BOOT = "/proc/sys/kernel/random/boot_id"
_HELP_S = 120.0
_UNUSED_S = 7 * 24 * 3600.0
_FOLDER = re.compile(r"[0-9a-f]{8}-[0-9a-f]{16}")
# Prints where trtexec is: $1 is tried after PATH.
_FIND = 'command -v trtexec || { [ -x "$1" ] && echo "$1"; }'
# Prints which libnvinfer a program runs ($1): as it is linked, or, where it loads it later, as the system has it.
_LIBRARY = r"""
ldd "$1" 2>/dev/null | sed -n 's/.*=> \(\/[^ ]*libnvinfer\.so[^ ]*\).*/\1/p'
PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | sed -n 's/.*libnvinfer\.so.*=> \(\/.*\)/\1/p'
"""


@dataclass(frozen=True)
class BoardFacts:
    """What was asked of the board once.

    Attributes:
        trtexec: path of the program.
        trtexec_sha256: of the program.
        version: of TensorRT.
        library_sha256: of libnvinfer; None where it could not be found, or nothing is measured.
        replay: the program is the replay tool.
        tegrastats: the board has it.
    """

    trtexec: str
    trtexec_sha256: str
    version: TensorRTVersion
    library_sha256: str | None
    replay: bool
    tegrastats: bool


class TrtexecBoard:
    """A board with trtexec.

    Args:
        device: any.
        trtexec: path on the device; None: look for it.
    """

    def __init__(self, device: Device, trtexec: str | None) -> None:
        self._device, self._given = device, trtexec
        self._checked = False

    @cached_property
    def facts(self) -> BoardFacts:
        """What there is.

        Raises:
            BackendError: if there is no trtexec, or it does not start.
            DeviceError: if the device is gone.
        """
        path = self._find()
        log, text, code = self._help(path)
        version = log.version
        if version is None:
            version = self._profiled_version()
        if version is None:
            raise failure(code, log, text, what=f"starting {path} on {self._device.uri}", version=None)
        transport = self._device.transport
        return BoardFacts(
            trtexec=path,
            trtexec_sha256=transport.sha256(path),
            version=version,
            library_sha256=None if log.replay else self._library_sha256(path),
            replay=log.replay,
            tegrastats=transport.run(["sh", "-c", "command -v tegrastats"], timeout_s=60.0).exit_code == 0,
        )

    @cached_property
    def boot(self) -> str:
        """Eight characters that name the device's boot; ``00000000`` where it does not say.

        Raises:
            DeviceError: if it cannot be asked.
        """
        try:
            text = self._device.transport.read_bytes(_BOOT, 4096)
        except CommandFailedError:  # it was asked, and has no such file: anything else is no answer
            return "0" * 8
        return hashlib.sha256(text).hexdigest()[:8]

    @cached_property
    def folder(self) -> str:
        """Where this boot's engines of this TensorRT lie."""
        facts = self.facts
        what = f"{facts.version.text} {facts.library_sha256} {facts.trtexec_sha256} {self._device.fingerprint}"
        return f"{self._engines}/{self.boot}-{hashlib.sha256(what.encode()).hexdigest()[:16]}"

    def look_again(self) -> None:
        """Ask which boot it is now: a board may restart between two batches.

        Raises:
            DeviceError: if it cannot be asked.
        """
        before = self.__dict__.pop("boot", None)
        if self.boot != before:
            self.__dict__.pop("folder", None)
            self._checked = False

    def make_room(self, limit_bytes: float) -> None:
        """Remove engines of other boots and of what was not used for long, and the oldest beyond a limit.

        Raises:
            DeviceError: if the device refuses.
        """
        transport = self._device.transport
        if not self._checked:
            self._checked = True
            transport.make_folder(self.folder)
            for entry in transport.list_folder(self._engines):
                name = entry.path.rpartition("/")[2]
                if not _FOLDER.fullmatch(name) or f"{self._engines}/{name}" == self.folder:
                    continue
                if not name.startswith(self.boot) or time.time() - entry.modified_s > _UNUSED_S:
                    transport.remove(f"{self._engines}/{name}")
        there = [item for item in transport.list_folder(self.folder) if item.path.endswith(".engine")]
        there.sort(key=lambda item: item.modified_s)
        size = sum(item.size_bytes for item in there)
        for item in there:
            if size <= limit_bytes:
                break
            transport.remove(f"{self.folder}/{item.path.rpartition('/')[2]}")
            size -= item.size_bytes

    @property
    def _engines(self) -> str:
        return f"{RemoteDriver(self._device.transport, 'none').base}/engines"

    def _find(self) -> str:
        transport = self._device.transport
        if self._given is not None:
            there = transport.stat(self._given)
            if there is None or there.kind != "file":
                raise BackendError(
                    f"there is no file {self._given} on {self._device.uri}",
                    hint="name trtexec: --backend-option trtexec=/…/trtexec",
                )
            return self._given
        lines = transport.run(["sh", "-c", _FIND, "sh", USUAL_PATH], timeout_s=60.0).text.splitlines()
        if not lines or not lines[0].startswith("/"):
            raise BackendError(
                f"{self._device.uri} has no trtexec, on its PATH or as {USUAL_PATH}",
                hint="install TensorRT there (JetPack: sudo apt install tensorrt; trtexec is in libnvinfer-bin), or "
                "name it: --backend-option trtexec=/…/trtexec"
                + ("; or --backend-option runner=python" if self._device.uri.scheme == "local" else ""),
            )
        return lines[0]

    def _help(self, path: str) -> tuple[TrtexecLog, str, int]:
        result = self._device.transport.run([path, "--help"], timeout_s=_HELP_S)
        text = (result.stdout + b"\n" + result.stderr).decode("utf-8", "replace")
        try:
            return parse_trtexec_log(text), text, result.exit_code
        except FileFormatError as error:
            raise BackendError(f"{path} on {self._device.uri} is no trtexec: {error}", error.hint) from error

    def _profiled_version(self) -> TensorRTVersion | None:
        software = self._device.profile.nvidia
        if software is None or software.tensorrt is None:
            return None
        try:
            return TensorRTVersion.parse(software.tensorrt)
        except FileFormatError:
            return None

    def _library_sha256(self, path: str) -> str | None:
        transport = self._device.transport
        for line in transport.run(["sh", "-c", _LIBRARY, "sh", path], timeout_s=60.0).text.splitlines()[:20]:
            try:
                if transport.stat(line.strip()) is not None:
                    return transport.sha256(line.strip())
            except ConnectionLostError:
                raise  # a table without the hash would be another one than the next command's
            except DeviceError:
                continue
        return None
