"""The table: what goes in comes out, and a file that is not whole is refused in one line."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from latency_helpers import KnownBackend, build_mini, mini_network, result_of

from dfmobile.devices.device import open_device
from dfmobile.errors import DfmobileError, FileFormatError, StorageError
from dfmobile.latency.coverage import table_document
from dfmobile.latency.header import TableHeader
from dfmobile.latency.schema import APPLICATION_ID, SCHEMA_VERSION
from dfmobile.latency.table import LatencyTable


@pytest.fixture
def header() -> TableHeader:
    return TableHeader.of(KnownBackend(open_device("local")))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished table, with a skipped block."""
    path = tmp_path_factory.mktemp("table") / "good.sqlite"
    build_mini(path, latency_max_ms=15.0)
    return path


def content(path: Path) -> str:
    """Return everything that a table says."""
    with LatencyTable.open(path) as table:
        rows = [table.provenance(entry.key) for entry in table.entries()]
        return json.dumps([table_document(table), rows, [item.model_dump() for item in table.builds()]])


def test_a_pass_comes_out_as_it_went_in(tmp_path: Path, header: TableHeader) -> None:
    block = mini_network().blocks[0]
    result = result_of(1.0, 1.25, 0.1 + 0.2, extra={"note": "×"})
    with LatencyTable.create(tmp_path / "t.sqlite", header) as table:
        session = table.start_session({"protocol": {"runs": 3}})
        table.record_pass(block, 1, result, session=session, model_sha256="ab" * 32)
    with LatencyTable.open(tmp_path / "t.sqlite") as table:
        assert table.header == header
        assert table.passes() == {block.key: [(1, result)]}
        assert table.recorded() == {(block.key, 1)}
        entry = table.entries()[0]
        assert (entry.hot_ms, entry.cold_ms, entry.n, entry.half_width_ms) == (1.0, 2.0, 3, None)
        assert (entry.macs, entry.kind, entry.input_shapes) == (block.macs, "stem", block.input_shapes)


def test_a_row_has_its_whole_provenance(good: Path) -> None:
    with LatencyTable.open(good) as table:
        row = table.provenance(table.entries()[0].key)[0]
    assert row["hot_ms"]
    assert row["clock"] == "thread-cpu"
    assert {"warm_up_runs", "involuntary_switches", "cpu_wall_ratio", "model_sha256", "started_utc"} <= row.keys()
    assert {"conditions_before", "conditions_after"} <= row.keys()
    session = row["session"]
    assert {"dfmobile", "runtime", "threads", "affinity", "precision", "protocol", "started_utc"} <= session.keys()
    assert session["runtime"]["library_sha256"] == "ab" * 32
    assert row["table"]["device_fingerprint"] == open_device("local").fingerprint


def test_what_all_passes_share_is_stored_once(good: Path) -> None:
    with sqlite3.connect(good) as connection:
        assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM passes").fetchone()[0] > 5
    connection.close()


def test_a_finished_table_is_one_file(good: Path) -> None:
    left = {path.name for path in good.parent.iterdir()} - {"good.sqlite.lock"}
    assert left == {"good.sqlite"}


def test_a_pass_is_recorded_once(tmp_path: Path, header: TableHeader) -> None:
    block = mini_network().blocks[0]
    with LatencyTable.create(tmp_path / "t.sqlite", header) as table:
        session = table.start_session({})
        table.record_pass(block, 0, result_of(1.0), session=session, model_sha256="")
        with pytest.raises(DfmobileError):
            table.record_pass(block, 0, result_of(2.0), session=session, model_sha256="")
        assert table.entries()[0].hot_ms == 1.0


def test_documents_of_other_tools_are_kept(tmp_path: Path, header: TableHeader) -> None:
    with LatencyTable.create(tmp_path / "t.sqlite", header) as table:
        assert table.document("calibration") is None
        table.set_document("calibration", {"scale": 1.5})
        assert table.document("calibration") == {"scale": 1.5}


def test_differences_name_what_differs(header: TableHeader) -> None:
    other = header.model_copy(update={"threads": 4, "runtime_version": "2.0", "device": "adb:1", "created_by": "9"})
    differences = header.differences(other)
    assert differences == ["runtime version is 1.0 in the table and 2.0 now", "threads is 1 in the table and 4 now"]


def test_a_table_is_never_overwritten(good: Path, header: TableHeader) -> None:
    with pytest.raises(StorageError, match="exists already"):
        LatencyTable.create(good, header)


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere.*no such file"):
        LatencyTable.open(tmp_path / "nowhere.sqlite")


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_table_is_refused_in_one_line(good: Path, tmp_path: Path, share: float) -> None:
    data = good.read_bytes()
    cut = tmp_path / "cut.sqlite"
    cut.write_bytes(data[: int(share * len(data))])
    with pytest.raises(FileFormatError) as caught:
        content(cut)
    assert "cut.sqlite" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flipped_bytes_are_refused_or_change_nothing(good: Path, tmp_path: Path) -> None:
    data, whole = good.read_bytes(), content(good)
    generator = random.Random(7)
    damaged = tmp_path / "damaged.sqlite"
    refused = 0
    for _ in range(200):
        position = generator.randrange(len(data))
        changed = bytearray(data)
        changed[position] ^= 1 << generator.randrange(8)
        damaged.write_bytes(changed)
        try:
            found = content(damaged)
        except DfmobileError:
            refused += 1
        else:
            assert found == whole, f"byte {position} was changed unnoticed"
    assert refused > 25  # much of so small a file is free space


def test_rows_cannot_be_exchanged(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "swapped.sqlite"
    shutil.copyfile(good, path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE passes SET pass = pass + 10")
    connection.commit()
    connection.close()
    with pytest.raises(FileFormatError, match="checksum"):
        content(path)


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, 999])
def test_another_schema_version_is_refused_by_number(good: Path, tmp_path: Path, version: int) -> None:
    path = tmp_path / "other.sqlite"
    shutil.copyfile(good, path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(FileFormatError, match=rf"schema version {version}, this dfmobile reads version 1") as caught:
        LatencyTable.open(path)
    assert "lut build" in caught.value.hint


def test_another_sqlite_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with pytest.raises(FileFormatError, match="not a latency table"):
        LatencyTable.open(path)


def test_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.sqlite"
    path.write_text("hot_ms,cold_ms\n" * 100)
    with pytest.raises(FileFormatError, match="no SQLite file"):
        LatencyTable.open(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="folder"):
        LatencyTable.open(tmp_path)


def test_a_schema_with_more_in_it_is_refused(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "trigger.sqlite"
    shutil.copyfile(good, path)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TRIGGER t AFTER INSERT ON passes BEGIN DELETE FROM passes; END")
    connection.close()
    with pytest.raises(FileFormatError, match="schema"):
        LatencyTable.open(path)


def test_a_file_that_only_claims_to_be_a_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("CREATE TABLE passes (x)")
    connection.close()
    with pytest.raises(FileFormatError, match="schema"):
        LatencyTable.open(path)


def test_lut_show_has_what_its_contract_says(good: Path) -> None:
    with LatencyTable.open(good) as table:
        document = table_document(table)
    json.dumps(document, allow_nan=False)
    assert {"device", "backend", "precision", "threads", "space", "input", "coverage", "entries"} <= document.keys()
    assert document["input"] == "32x32"
    assert 0 < document["coverage"] < 1  # a block was skipped
    assert {"key", "kind", "hot_ms", "cold_ms", "half_width", "n"} <= document["entries"][0].keys()
