"""Device profiles: what is written is read back; what is damaged or hostile is refused in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.devices.cpu_list import format_cpu_list
from dfmobile.devices.profile import (
    Cache,
    CpuCluster,
    CpuIdentity,
    Defaults,
    DeviceProfile,
    OperatingSystem,
    ThermalZone,
    Unreadable,
    dump_profile,
    known_profiles,
    load_profile,
    parse_profile,
    save_profile,
)
from dfmobile.devices.profile_files import MAX_FILE_BYTES
from dfmobile.errors import DfmobileError, FileFormatError, StorageError

MINIMAL = "schema_version: 1\nname: x\nkind: host\n"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
OPTIONAL_TEXTS = st.none() | TEXTS


@st.composite
def profiles(draw: st.DrawFn) -> DeviceProfile:
    cores = draw(st.lists(st.integers(0, 40), unique=True, max_size=12))
    cut = draw(st.integers(0, len(cores)))
    groups = [sorted(group) for group in (cores[:cut], cores[cut:]) if group]
    clusters = [
        CpuCluster(
            name=f"c{index}",
            cores=group,
            max_frequency_khz=draw(st.none() | st.integers(1, 6_000_000)),
            microarchitecture=draw(OPTIONAL_TEXTS),
            capacity=draw(st.none() | st.integers(0, 1024)),
        )
        for index, group in enumerate(groups)
    ]
    return DeviceProfile(
        name=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True)),
        kind=draw(st.sampled_from(["phone", "jetson", "host"])),
        soc=draw(OPTIONAL_TEXTS),
        model=draw(OPTIONAL_TEXTS),
        os=OperatingSystem(name=draw(OPTIONAL_TEXTS), version=draw(OPTIONAL_TEXTS)),
        cpu=CpuIdentity(model_name=draw(OPTIONAL_TEXTS), virtualised=draw(st.none() | st.booleans())),
        clusters=clusters,
        caches=[Cache(level=1, kind="data", size_bytes=32768, shared_by=[format_cpu_list(g) for g in groups])],
        features=draw(st.dictionaries(TEXTS, st.none() | st.booleans(), max_size=4)),
        thermal_zones=[ThermalZone(type=draw(TEXTS))],
        defaults=Defaults(cluster=draw(st.sampled_from([None, *(c.name for c in clusters)])), threads=2),
        observed=draw(st.none() | st.just({"load_1min": 0.25, "governor": None, "frequency_khz": {"0": 1}})),
        sources=draw(st.dictionaries(TEXTS, TEXTS, max_size=3)),
        unreadable=[Unreadable(what=draw(TEXTS), reason=draw(TEXTS))],
    )


@given(profiles())
def test_round_trip(profile: DeviceProfile) -> None:
    assert parse_profile(dump_profile(profile).encode(), "test") == profile


def test_file_round_trip(tmp_path: Path) -> None:
    profile = known_profiles()["snapdragon-845"]
    save_profile(profile, tmp_path / "a" / "phone.yaml")
    assert load_profile(tmp_path / "a" / "phone.yaml") == profile


def test_mask_and_count_follow_from_the_cores() -> None:
    cluster = CpuCluster(name="big", cores=[4, 5, 6, 7])
    assert (cluster.count, cluster.affinity_mask) == (4, "f0")
    assert CpuCluster.model_validate({"name": "big", "cores": [4], "count": None, "affinity_mask": "0x10"}).cores == [4]


def test_cluster_by_name() -> None:
    profile = known_profiles()["jetson-tx2"]
    assert profile.cluster("denver2").cores == [1, 2]
    assert profile.core_count == 6
    with pytest.raises(KeyError):
        profile.cluster("a72")


def cluster_text(fields: str) -> str:
    return f"{MINIMAL}clusters:\n  - {{name: big, {fields}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no fields"),
        ("- 1\n", "no fields"),
        ("name: x\nkind: host\n", "schema_version is None, this dfmobile reads 1"),
        ("schema_version: 2\nname: x\nkind: host\n", "schema_version is 2"),
        ("schema_version: true\nname: x\nkind: host\n", "schema_version is True"),
        ("schema_version: 1\nname: x\nkind: toaster\n", "kind: Input should be 'phone', 'jetson' or 'host'"),
        ("schema_version: 1\nname: '../x'\nkind: host\n", "name: String should match"),
        (MINIMAL + "colour: red\n", "colour: Extra inputs are not permitted"),
        (MINIMAL + "memory_bytes: -1\n", "memory_bytes: Input should be greater than 0"),
        (MINIMAL + "memory_bytes: '8'\n", "memory_bytes: Input should be a valid integer"),
        (MINIMAL + "memory_bytes: 1.5\n", "memory_bytes: Input should be a valid integer"),
        (MINIMAL + "features: {fp16: 'yes'}\n", "features.fp16: Input should be a valid boolean"),
        (MINIMAL + "features: [fp16]\n", "features: Input should be a valid dictionary"),
        (MINIMAL + "cpusets: {top-app: '7-0'}\n", "cpusets: top-app: the range '7-0' runs backwards"),
        (MINIMAL + "caches: [{level: 1, kind: data, shared_by: ['x']}]\n", "caches.0.shared_by: 'x' is not a core"),
        (MINIMAL + "defaults: {cluster: huge}\n", "defaults.cluster: 'huge' is not among the clusters"),
        (MINIMAL + "observed: {when: 2020-01-01}\n", "observed"),
        (MINIMAL + "os: 2020-01-01\n", "os: Input should be"),
        (cluster_text("cores: [0, 1], affinity_mask: '07'"), "clusters.0: affinity_mask is '07', but cores 0-1 have"),
        (cluster_text("cores: [4], affinity_mask: 10"), "in quotes"),
        (cluster_text("cores: [4], affinity_mask: zz"), "clusters.0: 'zz' is not a hexadecimal mask"),
        (cluster_text("cores: [4], count: 2"), "clusters.0: count is 2, but 1 cores are listed"),
        (cluster_text("cores: [1, 0]"), "clusters.0.cores: cores must be ascending"),
        (cluster_text("cores: []"), "clusters.0.cores: List should have at least 1 item"),
        (cluster_text("cores: [-1]"), "clusters.0.cores.0: Input should be greater"),
        (cluster_text("cores: [999999]"), "clusters.0.cores.0: Input should be less"),
        (cluster_text("cores: [0]") + "  - {name: big, cores: [1]}\n", "two have the same name"),
        (cluster_text("cores: [0]") + "  - {name: little, cores: [0]}\n", "a core belongs to two"),
        (MINIMAL + "name: y\n", "line 4: the key 'name' stands twice"),
        (MINIMAL + "soc: [unclosed\n", "line"),
        (MINIMAL + "soc: !!python/object/apply:os.system [id]\n", "line 4: could not determine a constructor"),
        (MINIMAL + "soc: &a x\nmodel: *a\n", "line 5: aliases (*name) are not allowed"),
        (MINIMAL + "<<: {soc: x}\n", "a key must be plain text"),
        (MINIMAL + "? [a]\n: 1\n", "a key must be plain text"),
        (MINIMAL + "soc: " + "[" * 5000 + "]" * 5000 + "\n", "nested deeper than"),
        (MINIMAL + "memory_bytes: " + "9" * 9000 + "\n", "x.yaml"),
        (MINIMAL + "soc: 2020-13-45\n", "is not YAML"),
        (MINIMAL + "soc: a\x00b\n", "is not YAML"),
        (MINIMAL + "---\n" + MINIMAL, "expected a single document"),
        (MINIMAL + f"soc: {'x' * 2000}\n", "soc: String should have at most 1000 characters"),
    ],
)
def test_damaged_and_hostile_files(text: str, message: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        parse_profile(text.encode(), "x.yaml")
    told = str(caught.value)
    assert message in told
    assert told.startswith("x.yaml")
    assert "\n" not in told
    assert len(told) < 500
    assert caught.value.hint


def test_an_alias_bomb_costs_nothing() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(FileFormatError, match="aliases"):
        parse_profile((MINIMAL + "\n".join(lines)).encode(), "bomb.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        load_profile(tmp_path / "absent.yaml")
    with pytest.raises(StorageError, match="folder"):
        load_profile(tmp_path)
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(FileFormatError, match="larger than"):
        load_profile(huge)
    huge.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="not YAML"):
        load_profile(huge)


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="needs /proc")
def test_files_that_cannot_be_written() -> None:
    with pytest.raises(StorageError, match="cannot write"):
        save_profile(known_profiles()["generic-x86-64"], "/proc/self/profile.yaml")


@given(st.data())
def test_a_truncated_file_is_read_or_refused(data: Any) -> None:
    whole = dump_profile(known_profiles()["snapdragon-845"]).encode()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        parse_profile(cut, "cut.yaml")
    except DfmobileError as error:
        assert str(error).startswith("cut.yaml")  # noqa: PT017 - both outcomes are right


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse_profile(MINIMAL.encode() + data, "any.yaml")
    except DfmobileError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
