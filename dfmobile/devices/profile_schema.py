"""Schema of a device profile: what is known of a device, where each datum is from, and what could not be read.

``None`` always means unknown, never no. docs/reference/device-profiles.md explains every field.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    StringConstraints,
    computed_field,
    field_validator,
    model_validator,
)

from dfmobile.devices.cpu_list import MAX_CORES, affinity_mask, format_cpu_list, parse_cpu_list, parse_mask

SCHEMA_VERSION = 1

# Anything longer than these is a damaged or hostile file.
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Core = Annotated[int, Field(ge=0, lt=MAX_CORES)]
Frequency = Annotated[int, Field(gt=0, le=100_000_000)]  # kHz; 100 GHz
Size = Annotated[int, Field(gt=0, le=2**50)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class OperatingSystem(_Model):
    """Operating system.

    Attributes:
        name: e.g. ``debian``, ``android``, ``l4t``.
        version: e.g. ``12``, ``8.0.0``, ``36.4.7``.
        kernel: kernel release, e.g. ``6.1.0-18-amd64``.
        build: the vendor's build, e.g. Android's ``ro.build.fingerprint``.
    """

    name: Text | None = None
    version: Text | None = None
    kernel: Text | None = None
    build: Text | None = None


class CpuIdentity(_Model):
    """What the processor says of itself.

    Attributes:
        model_name: marketing name, e.g. ``AMD EPYC``.
        vendor: e.g. ``AuthenticAMD``, ``arm``, ``qualcomm``.
        family: x86 CPU family.
        model: x86 model number.
        stepping: x86 stepping.
        microcode: x86 microcode revision, as the kernel writes it.
        virtualised: true under a hypervisor.
        hypervisor: which one.
    """

    model_name: Text | None = None
    vendor: Text | None = None
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    microcode: Text | None = None
    virtualised: bool | None = None
    hypervisor: Text | None = None


class CpuCluster(_Model):
    """Cores of one kind, that a measurement may be pinned to.

    ``count`` and ``affinity_mask`` are computed from the cores; a file that states others is refused.

    Attributes:
        name: unique in the profile, e.g. ``gold``, ``big``, ``performance``, ``all``.
        cores: logical CPU numbers, ascending.
        max_frequency_khz: the hardware's maximum (cpufreq's ``cpuinfo_max_freq``), not the moment's limit.
        min_frequency_khz: the hardware's minimum.
        microarchitecture: e.g. ``Cortex-A76``.
        identity: ARM's implementer:part, e.g. ``0x51:0x802``.
        capacity: the scheduler's relative capacity, 1024 for the largest core.
        threads_per_core: 2 with simultaneous multithreading.
    """

    name: Text
    cores: Annotated[list[Core], Field(min_length=1, max_length=MAX_CORES)]
    max_frequency_khz: Frequency | None = None
    min_frequency_khz: Frequency | None = None
    microarchitecture: Text | None = None
    identity: Text | None = None
    capacity: Annotated[int, Field(ge=0, le=1024)] | None = None
    threads_per_core: Annotated[int, Field(ge=1, le=8)] | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def count(self) -> int:
        """Number of cores."""
        return len(self.cores)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def affinity_mask(self) -> str:
        """Mask for ``taskset``: hexadecimal, no ``0x``."""
        return affinity_mask(self.cores)

    @field_validator("cores")
    @classmethod
    def _ascending(cls, cores: list[int]) -> list[int]:
        if cores != sorted(set(cores)):
            raise ValueError("cores must be ascending, each once")
        return cores

    @model_validator(mode="wrap")
    @classmethod
    def _derived_values_agree(cls, data: Any, handler: ModelWrapValidatorHandler[CpuCluster]) -> CpuCluster:
        if not isinstance(data, dict):
            return handler(data)
        stated = {key: data[key] for key in ("count", "affinity_mask") if data.get(key) is not None}
        cluster = handler({key: value for key, value in data.items() if key not in ("count", "affinity_mask")})
        if "count" in stated and stated["count"] != cluster.count:
            raise ValueError(f"count is {str(stated['count'])[:20]}, but {cluster.count} cores are listed")
        mask = stated.get("affinity_mask")
        # Unquoted YAML reads the mask 10 as a number and 1e3 as text, so only text is taken at its word.
        if mask is not None and (not isinstance(mask, str) or parse_mask(mask) != cluster.cores):
            raise ValueError(
                f"affinity_mask is {str(mask)[:20]!r}, but cores {format_cpu_list(cluster.cores)} "
                f"have the mask '{cluster.affinity_mask}' (in quotes)"
            )
        return cluster


class Cache(_Model):
    """Caches of one level, kind and size.

    Attributes:
        level: 1, 2, 3, …
        kind: ``data``, ``instruction`` or ``unified``.
        size_bytes: of one such cache.
        line_bytes: cache line.
        shared_by: one CPU list (``"4-7"``) a cache: the cores that share it; empty where unknown.
    """

    level: Annotated[int, Field(ge=1, le=8)]
    kind: Literal["data", "instruction", "unified"]
    size_bytes: Size | None = None
    line_bytes: Annotated[int, Field(gt=0, le=4096)] | None = None
    shared_by: Annotated[list[Text], Field(max_length=MAX_CORES)] = []

    @field_validator("shared_by")
    @classmethod
    def _are_cpu_lists(cls, lists: list[str]) -> list[str]:
        for text in lists:
            if not parse_cpu_list(text):
                raise ValueError(f"{text!r} names no core")
        return lists


class ThermalZone(_Model):
    """A temperature sensor that the kernel shows under /sys/class/thermal.

    Attributes:
        type: the sensor's name, e.g. ``cpu0-gold-usr``.
        name: its folder, e.g. ``thermal_zone3``; None where it differs between phones of one SoC.
    """

    type: Text
    name: Text | None = None


class Gpu(_Model):
    """Graphics processor.

    Attributes:
        name: e.g. ``Adreno 630``.
        max_frequency_khz: highest clock.
        compute_capability: CUDA's, e.g. ``6.2``.
        shader_cores: CUDA cores.
    """

    name: Text
    max_frequency_khz: Frequency | None = None
    compute_capability: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,2}\.[0-9]$")] | None = None
    shader_cores: Annotated[int, Field(gt=0, le=1_000_000)] | None = None


class NvidiaSoftware(_Model):
    """NVIDIA's software on the device, as far as it is installed and can be read.

    Attributes:
        cuda: version of the toolkit or its runtime, e.g. ``12.6.68``.
        tensorrt: version of the library, e.g. ``10.3.0.30``.
        tensorrt_python: version of TensorRT's Python package, from the system's packages.
        trtexec: path of the program.
        driver: version of the display driver; Jetsons before JetPack 7 have none of their own.
    """

    cuda: Text | None = None
    tensorrt: Text | None = None
    tensorrt_python: Text | None = None
    trtexec: Text | None = None
    driver: Text | None = None


class PowerRail(_Model):
    """A supply rail with a sensor.

    Attributes:
        name: e.g. ``VDD_IN``.
        path: the sensor's folder under /sys; None where it differs between boards.
    """

    name: Text
    path: Text | None = None


class JetsonBoard(_Model):
    """What only a Jetson has.

    Attributes:
        module: e.g. ``Jetson Orin Nano 8GB``, by the part number.
        part: part number of the module, e.g. ``p3767-0003``.
        l4t: version of L4T (Jetson Linux), e.g. ``36.4.7``.
        jetpack: release of JetPack that this L4T or the installed package belongs to.
        power_mode: name of the nvpmodel mode, e.g. ``MAXN``, ``25W``; it is kept over a reboot.
        rails: supply rails with a sensor.
        input_rails: those whose sum is what the module takes in; empty where that is not known.
    """

    module: Text | None = None
    part: Text | None = None
    l4t: Text | None = None
    jetpack: Text | None = None
    power_mode: Text | None = None
    rails: Annotated[list[PowerRail], Field(max_length=64)] = []
    input_rails: Annotated[list[Text], Field(max_length=16)] = []

    @model_validator(mode="after")
    def _input_rails_are_rails(self) -> JetsonBoard:
        missing = set(self.input_rails) - {rail.name for rail in self.rails}
        if missing:
            raise ValueError(f"input_rails: {sorted(missing)[0]!r} is not among the rails")
        return self


class Defaults(_Model):
    """What a measurement takes where the user says nothing.

    Attributes:
        cluster: name of the cluster to pin to; None is every core that the process may use.
        threads: number of threads.
    """

    cluster: Text | None = None
    threads: Annotated[int, Field(ge=1, le=MAX_CORES)] = 1


class Limits(_Model):
    """What this process or container may use of the machine.

    Attributes:
        allowed_cores: CPU list; None where unknown.
        cpu_quota: CPUs' worth of time a container gets, e.g. 1.5; None is unlimited or unknown.
        memory_bytes: a container's memory limit; None is unlimited or unknown.
    """

    allowed_cores: Text | None = None
    cpu_quota: Annotated[float, Field(gt=0, le=MAX_CORES, allow_inf_nan=False)] | None = None
    memory_bytes: Size | None = None


class Unreadable(_Model):
    """A datum that was asked for and could not be read.

    Attributes:
        what: the datum, in words.
        reason: why, with the path.
    """

    what: Text
    reason: Text


class DeviceProfile(_Model):
    """Everything known of a device.

    Attributes:
        schema_version: of this file format.
        name: short name of the profile, e.g. ``snapdragon-845``.
        kind: ``phone``, ``jetson`` or ``host``.
        known_profile: name of the packaged profile that it matches.
        soc: system on a chip, e.g. ``Snapdragon 845``.
        soc_names: names by which a device of this SoC, or a board of this type, says so (``sdm845``, ``p3767-0005``);
            two profiles that share one match, without regard to case.
        model: the product, e.g. ``SM-G960U``.
        os: operating system.
        abi: ``arm64-v8a``, ``armeabi-v7a``, ``x86_64``, ``x86``, ``riscv64``.
        cpu: what the processor says of itself.
        clusters: kinds of cores, fastest first.
        caches: by level and kind.
        memory_bytes: memory that the operating system has.
        features: instruction set: fp16 and dotprod (arithmetic, not only conversion), avx2, …; None is unknown.
        cpusets: name to CPU list.
        governors: frequency governors that the kernel offers.
        thermal_zones: temperature sensors.
        gpu: graphics processor.
        nvidia: NVIDIA's software; None where there is none or nobody asked.
        jetson: what only a Jetson has; None elsewhere.
        runtimes: installed inference runtimes, distribution name to version.
        defaults: what a measurement takes where the user says nothing.
        limits: what this process may use of the machine.
        observed: conditions when it was probed (``Conditions.to_dict``); never part of the fingerprint.
        sources: field to where it is from.
        unreadable: what could not be read, and why.
    """

    schema_version: Literal[1] = 1
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")]
    kind: Literal["phone", "jetson", "host"]
    known_profile: Text | None = None
    soc: Text | None = None
    soc_names: Annotated[list[Text], Field(max_length=50)] = []
    model: Text | None = None
    os: OperatingSystem = OperatingSystem()
    abi: Text | None = None
    cpu: CpuIdentity = CpuIdentity()
    clusters: Annotated[list[CpuCluster], Field(max_length=MAX_CORES)] = []
    caches: Annotated[list[Cache], Field(max_length=256)] = []
    memory_bytes: Size | None = None
    features: Annotated[dict[Text, bool | None], Field(max_length=200)] = {}
    cpusets: Annotated[dict[Text, Text], Field(max_length=200)] = {}
    governors: Annotated[list[Text], Field(max_length=50)] = []
    thermal_zones: Annotated[list[ThermalZone], Field(max_length=1000)] = []
    gpu: Gpu | None = None
    nvidia: NvidiaSoftware | None = None
    jetson: JetsonBoard | None = None
    runtimes: Annotated[dict[Text, Text], Field(max_length=200)] = {}
    defaults: Defaults = Defaults()
    limits: Limits = Limits()
    observed: dict[str, JsonValue] | None = None
    sources: Annotated[dict[Text, Text], Field(max_length=200)] = {}
    unreadable: Annotated[list[Unreadable], Field(max_length=1000)] = []

    @field_validator("cpusets")
    @classmethod
    def _cpusets_are_cpu_lists(cls, cpusets: dict[str, str]) -> dict[str, str]:
        for name, text in cpusets.items():
            try:
                parse_cpu_list(text)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return cpusets

    @model_validator(mode="after")
    def _clusters_fit_together(self) -> DeviceProfile:
        names = [cluster.name for cluster in self.clusters]
        if len(set(names)) != len(names):
            raise ValueError(f"clusters: two have the same name, of {', '.join(names)[:200]}")
        cores = [core for cluster in self.clusters for core in cluster.cores]
        if len(set(cores)) != len(cores):
            raise ValueError("clusters: a core belongs to two of them")
        if self.defaults.cluster is not None and self.defaults.cluster not in names:
            raise ValueError(f"defaults.cluster: {self.defaults.cluster!r} is not among the clusters")
        return self

    def cluster(self, name: str) -> CpuCluster:
        """Return the cluster of that name.

        Raises:
            KeyError: if there is none.
        """
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        raise KeyError(name)

    @property
    def core_count(self) -> int:
        """Number of logical CPUs; 0 where unknown."""
        return sum(cluster.count for cluster in self.clusters)
