"""Device profiles: one place to import schema, files, matching and fingerprint from."""

from dfmobile.devices.fingerprint import fingerprint, fingerprint_facts, summary
from dfmobile.devices.profile_files import (
    dump_profile,
    known_profiles,
    load_profile,
    match_profile,
    parse_profile,
    save_profile,
)
from dfmobile.devices.profile_schema import (
    SCHEMA_VERSION,
    Cache,
    CpuCluster,
    CpuIdentity,
    Defaults,
    DeviceProfile,
    Gpu,
    JetsonBoard,
    Limits,
    NvidiaSoftware,
    OperatingSystem,
    PowerRail,
    ThermalZone,
    Unreadable,
)

__all__ = [
    "SCHEMA_VERSION",
    "Cache",
    "CpuCluster",
    "CpuIdentity",
    "Defaults",
    "DeviceProfile",
    "Gpu",
    "JetsonBoard",
    "Limits",
    "NvidiaSoftware",
    "OperatingSystem",
    "PowerRail",
    "ThermalZone",
    "Unreadable",
    "dump_profile",
    "fingerprint",
    "fingerprint_facts",
    "known_profiles",
    "load_profile",
    "match_profile",
    "parse_profile",
    "save_profile",
    "summary",
]
