"""Probe of an Android phone through any transport: a handful of round trips, as the shell user that adb gives.

What that user may not read is recorded as unreadable; nothing is guessed. The one thing taken over from a
packaged profile is the sizes of caches, where the phone hides them and its cores are the profile's; ``sources``
says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from dfmobile.devices.cpu_list import parse_cpu_list
from dfmobile.devices.phone_conditions import Answer, phone_conditions
from dfmobile.devices.probe import profile_from_files
from dfmobile.devices.profile_files import known_profiles
from dfmobile.devices.profile_schema import Defaults, DeviceProfile, Unreadable
from dfmobile.devices.remote_files import RemoteFiles
from dfmobile.devices.system_files import SystemFiles
from dfmobile.devices.transport.base import CommandTimeoutError, ConnectionLostError, Transport
from dfmobile.errors import DeviceError

_DUMPSYS_TIMEOUT_S = 15.0
_DUMPSYS_LIMIT_BYTES = 4 * 2**20
_STATUS = "/proc/self/status"


def probe_android(
    transport: Transport, *, read_files: Callable[[Transport], RemoteFiles] = RemoteFiles
) -> DeviceProfile:
    """Describe the phone behind a transport.

    Args:
        transport: an open connection; its ``properties`` are Android's.
        read_files: how its files are brought; for tests.

    Returns:
        Its profile, matched to a packaged one where there is one. Battery, screen, temperatures, load and clocks
        of the moment are in ``observed``, which no fingerprint sees.

    Raises:
        DeviceError: if the phone went away, or has no shell. What cannot be read is no error.
    """
    properties = transport.properties()
    files = read_files(transport)
    battery, power = _dumpsys(transport, "battery"), _dumpsys(transport, "power")
    allowed = allowed_cores(files)
    profile = profile_from_files(files, allowed_cores=allowed, properties=properties)
    conditions, missing = phone_conditions(files, battery, power)
    if allowed is None:
        missing.append(("limits.allowed_cores", f"{_STATUS}: {files.reason(_STATUS)}"))
    profile = with_known_caches(_with_shell_limits(profile, files))
    unreadable = [*profile.unreadable, *(_unreadable(what, reason) for what, reason in missing)]
    unreadable += _closed(files.closed, unreadable)
    unreadable += [_unreadable(f"all of {path}", "longer than what is read of a file") for path in files.cut]
    return profile.model_copy(update={"observed": conditions.to_dict(), "unreadable": unreadable[:1000]})


def allowed_cores(files: SystemFiles) -> list[int] | None:
    """Return the cores that the shell's own processes may run on; None where the kernel does not say it."""
    found = re.search(r"^Cpus_allowed_list:\s*([0-9,-]{1,2000})\s*$", files.read(_STATUS) or "", re.M)
    try:
        return (parse_cpu_list(found[1]) or None) if found is not None else None
    except ValueError:
        return None


def with_known_caches(profile: DeviceProfile) -> DeviceProfile:
    """Take the cache sizes of the packaged profile, where the phone hides its own and has the same cores."""
    known = known_profiles().get(profile.known_profile or "")
    if profile.caches or known is None or not known.caches:
        return profile
    kinds = [{(*cluster.cores,): cluster.identity for cluster in item.clusters} for item in (profile, known)]
    if kinds[0] != kinds[1]:
        return profile
    sources = {**profile.sources, "caches": f"packaged profile {known.name}: {known.sources.get('caches', '')}"[:1000]}
    return profile.model_copy(update={"caches": known.caches, "sources": sources})


def _with_shell_limits(profile: DeviceProfile, files: RemoteFiles) -> DeviceProfile:
    """Say where the shell's limits are from, and measure by default on a cluster that it may use."""
    if profile.limits.allowed_cores is None:
        return profile
    allowed = set(parse_cpu_list(profile.limits.allowed_cores))
    cpuset = files.read("/proc/self/cpuset")
    sources = {"limits": f"{_STATUS} of the shell" + (f", in cpuset {cpuset[:100]!r}" if cpuset else "")}
    usable = [cluster.name for cluster in profile.clusters if allowed.issuperset(cluster.cores)]
    defaults = profile.defaults
    if usable and defaults.cluster not in usable:
        sources["defaults"] = f"the shell may not use all of {defaults.cluster}; {usable[0]} is the fastest it may"
        defaults = Defaults(cluster=usable[0], threads=1)
    return profile.model_copy(update={"defaults": defaults, "sources": {**profile.sources, **sources}})


def _dumpsys(transport: Transport, service: str) -> Answer:
    argv = ["dumpsys", service]
    try:
        result = transport.run(argv, timeout_s=_DUMPSYS_TIMEOUT_S, output_limit_bytes=_DUMPSYS_LIMIT_BYTES)
    except ConnectionLostError:
        raise
    except CommandTimeoutError:
        return Answer(None, f"dumpsys {service} did not end within {_DUMPSYS_TIMEOUT_S:g} s")
    except DeviceError as error:
        return Answer(None, f"dumpsys {service}: {error}")
    text = result.stdout.decode("utf-8", "replace")
    # "Can't find service" and "Permission Denial" come with exit code 0 on many versions.
    first = next((line.strip() for line in (text or result.stderr.decode("utf-8", "replace")).splitlines()), "")
    if result.exit_code != 0 or re.match(r"Can't find service|Permission Denial", first, re.I):
        return Answer(None, f"dumpsys {service}: {first[:200] or f'ended with {result.exit_code}'}")
    return Answer(text)


def _unreadable(what: str, reason: str) -> Unreadable:
    return Unreadable(what=what[:1000], reason=" ".join(reason.split())[:1000])


def _closed(closed: dict[str, str], noted: Sequence[Unreadable]) -> list[Unreadable]:
    """List what is there and closed to the shell user, files that differ in a number only together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for path, reason in closed.items():
        if not any(path in item.reason for item in noted):
            groups.setdefault((re.sub(r"[0-9]+", "N", path), reason), []).append(path)
    return [
        _unreadable(paths[0] if len(paths) == 1 else f"{pattern} ({len(paths)} files)", reason)
        for (pattern, reason), paths in list(groups.items())[:200]
    ]
