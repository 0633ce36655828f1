"""What a Jetson's tools and files say, from their text: nvpmodel, jetson_clocks, nv_tegra_release, packages, headers.

Untrusted text; None is what it does not say. Knows no transport.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_MAX_CHARACTERS = 2**18
_VERSION = r"[0-9]{1,5}(?:\.[0-9]{1,5}){1,4}"
_RELEASE = re.compile(r"^\s*#?\s*R([0-9]{1,3}) \(release\), REVISION: ([0-9]{1,4}(?:\.[0-9]{1,4}){0,2})", re.M)
_POWER_MODE = re.compile(r"NV Power Mode[ \t]*:[ \t]*(\S[^\r\n]{0,99})")
# "Gonvernor" is how L4T 28 writes it.
_CLOCKS = re.compile(
    r"^[ \t]*(cpu[0-9]{1,4}|GPU|EMC)\b:?[^\r\n]{0,200}?MinFreq=([0-9]{1,13})[ \t]+MaxFreq=([0-9]{1,13})"
    r"[ \t]+CurrentFreq=([0-9]{1,13})(?:[ \t]+FreqOverride=([01]))?",
    re.M,
)
_PACKAGE = re.compile(r"^ii +([a-z0-9][a-z0-9.+-]{0,80}) ([0-9A-Za-z.+:~-]{1,80})[ \t\r]*$", re.M)


@dataclass(frozen=True)
class ClockRange:
    """A clock's limits and its state, in kHz.

    Attributes:
        min_khz: lowest that is allowed.
        max_khz: highest that is allowed.
        current_khz: now.
        override: of the memory's clock: it is held at ``current_khz`` whatever the limits; None: not said.
    """

    min_khz: int
    max_khz: int
    current_khz: int
    override: bool | None = None

    @property
    def locked(self) -> bool:
        """True if the clock cannot move: its limits are equal, or it is held at its highest."""
        return self.min_khz == self.max_khz or (self.override is True and self.current_khz == self.max_khz)


@dataclass(frozen=True)
class ClocksShown:
    """What ``jetson_clocks --show`` says.

    Attributes:
        machine: name of the board.
        cpus: clock of each core that is switched on.
        gpu: clock of the GPU.
        emc: clock of the memory.
        power_mode: name of the nvpmodel mode.
    """

    machine: str | None
    cpus: dict[int, ClockRange]
    gpu: ClockRange | None
    emc: ClockRange | None
    power_mode: str | None


def parse_l4t(text: str) -> str | None:
    """Return the version in ``/etc/nv_tegra_release``: ``32.5`` or ``36.4.7``; the revision has one to three parts."""
    found = _RELEASE.search(text[:_MAX_CHARACTERS])
    return f"{int(found[1])}.{found[2]}" if found is not None else None


def parse_power_mode(text: str) -> str | None:
    """Return the name of the mode that ``nvpmodel -q`` (verbose or not) or ``jetson_clocks --show`` says."""
    found = _POWER_MODE.search(text[:_MAX_CHARACTERS])
    return " ".join(found[1].split())[:100] if found is not None else None


def parse_jetson_clocks(text: str) -> ClocksShown | None:
    """Read ``jetson_clocks --show``, which writes cores in kHz and the others in Hz; None where no clock is in it."""
    text = text[:_MAX_CHARACTERS]
    cpus: dict[int, ClockRange] = {}
    others: dict[str, ClockRange] = {}
    for found in _CLOCKS.finditer(text):
        low, high, now = (int(found[index]) for index in (2, 3, 4))
        override = None if found[5] is None else found[5] == "1"
        if found[1].startswith("cpu"):
            if "Online=0" not in found[0]:
                cpus[int(found[1][3:])] = ClockRange(low, high, now)
        else:
            others[found[1]] = ClockRange(low // 1000, high // 1000, now // 1000, override)
    if not cpus and not others:
        return None
    machine = re.search(r"\bMachine:[ \t]*(\S[^\r\n]{0,199})", text)
    return ClocksShown(
        machine=" ".join(machine[1].split()) if machine is not None else None,
        cpus=cpus,
        gpu=others.get("GPU"),
        emc=others.get("EMC"),
        power_mode=parse_power_mode(text),
    )


def parse_packages(text: str) -> dict[str, str]:
    """Return installed Debian packages, name to upstream version (``8.5.2`` of ``8.5.2-1+cuda11.4``)."""
    found: dict[str, str] = {}
    for name, version in _PACKAGE.findall(text[:_MAX_CHARACTERS])[:200]:
        upstream = str(version).rpartition(":")[2]
        number = re.match(r"[0-9A-Za-z.]+", upstream)
        if number is not None:
            found[str(name)] = number[0]
    return found


def parse_tensorrt_header(text: str) -> str | None:
    """Return the version in ``NvInferVersion.h``, e.g. ``8.5.2.2``; since TensorRT 10.11 by way of other macros."""
    values = dict(
        re.findall(
            r"^[ \t]*#define[ \t]+(?:NV_TENSORRT|TRT)_(MAJOR|MINOR|PATCH|BUILD)(?:_ENTERPRISE)?[ \t]+([0-9]{1,6})\b",
            text[:_MAX_CHARACTERS],
            re.M,
        )
    )
    parts = [values.get(name) for name in ("MAJOR", "MINOR", "PATCH")]
    if None in parts:
        return None
    build = values.get("BUILD")
    return ".".join([*(part for part in parts if part is not None), *([build] if build else [])])


def parse_trtexec_banner(text: str) -> str | None:
    """Return the version in trtexec's first line, ``[TensorRT v8502]`` or ``[TensorRT v100300] [b30]``."""
    found = re.search(r"\[TensorRT v([0-9]{4,6})\]", text[:4096])
    if found is None:
        return None
    number = int(found[1])
    # 8.5.2 is 8502, since TensorRT 10 10.3.0 is 100300.
    major, minor, patch = (
        (number // 10000, number // 100 % 100, number % 100)
        if len(found[1]) == 6
        else (number // 1000, number // 100 % 10, number % 100)
    )
    return f"{major}.{minor}.{patch}"


def parse_cuda_version(json_text: str | None, plain_text: str | None) -> str | None:
    """Return the toolkit's version from ``version.json`` (CUDA 11 and later) or ``version.txt``."""
    if json_text:
        try:
            document = json.loads(json_text[:_MAX_CHARACTERS])
            version = document["cuda"]["version"]
        except (ValueError, KeyError, TypeError, RecursionError):
            version = None  # damaged: the other file may say it
        if isinstance(version, str) and re.fullmatch(_VERSION, version):
            return version
    found = re.search(rf"CUDA Version ({_VERSION})\b", (plain_text or "")[:4096])
    return found[1] if found is not None else None


def parse_nvidia_smi(text: str) -> tuple[str | None, str | None, str | None]:
    """Return name, driver version and compute capability of the first GPU in the CSV of ``nvidia-smi``."""
    fields = [field.strip() for field in text[:4096].strip().split("\n")[0].split(",")]
    if len(fields) != 3:
        return None, None, None
    name = fields[0][:200] if fields[0] and not fields[0].startswith("[") else None
    driver = fields[1] if re.fullmatch(_VERSION, fields[1]) else None
    capability = fields[2] if re.fullmatch(r"[0-9]{1,2}\.[0-9]", fields[2]) else None
    return name, driver, capability
