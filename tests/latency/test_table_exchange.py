"""Tables as documents, and merged: nothing is lost on the way, and what was changed or does not fit is refused."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from latency_helpers import KnownBackend, build_mini

from dfmobile.devices.device import open_device
from dfmobile.errors import DfmobileError, FileFormatError, InputError, StorageError
from dfmobile.latency import exchange, rejected
from dfmobile.latency.content import TableContent, read_content, write_content
from dfmobile.latency.exchange import export_table, import_table
from dfmobile.latency.merge import merge_tables
from dfmobile.latency.table import LatencyTable


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished table, with a skipped block and another tool's document."""
    path = tmp_path_factory.mktemp("table") / "good.sqlite"
    build_mini(path, latency_max_ms=15.0)
    with LatencyTable.open(path) as table:
        table.set_document("calibration", {"scale": 0.1 + 0.2})
    return path


@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
def test_json_holds_all_of_a_table(good: Path, tmp_path: Path, name: str) -> None:
    export_table(good, tmp_path / name)
    import_table(tmp_path / name, tmp_path / "again.sqlite")
    assert read_content(tmp_path / "again.sqlite") == read_content(good)
    with LatencyTable.open(tmp_path / "again.sqlite") as again, LatencyTable.open(good) as table:
        assert again.entries() == table.entries()
        assert again.skipped() == table.skipped()
        assert again.provenance(again.entries()[0].key) == table.provenance(table.entries()[0].key)
        assert again.document("calibration") == {"scale": 0.1 + 0.2}


def test_equal_tables_make_equal_documents(good: Path, tmp_path: Path) -> None:
    export_table(good, tmp_path / "a.json.gz")
    import_table(tmp_path / "a.json.gz", tmp_path / "again.sqlite")
    export_table(tmp_path / "again.sqlite", tmp_path / "b.json.gz")
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_csv_is_a_summary(good: Path, tmp_path: Path) -> None:
    count = export_table(good, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with LatencyTable.open(good) as table:
        entries = table.entries()
    assert len(rows) == len(entries) == count
    assert [float(row["hot_ms"]) for row in rows] == [entry.hot_ms for entry in entries]
    assert {row["granularity"] for row in rows} == {"block"}


def test_a_file_that_is_there_stays(good: Path, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("mine")
    with pytest.raises(StorageError, match="exists already"):
        export_table(good, tmp_path / "t.json")
    with pytest.raises(StorageError, match="exists already"):
        import_table(tmp_path / "t.json", good)
    assert (tmp_path / "t.json").read_text() == "mine"


def test_another_ending_is_refused(good: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither .json nor .csv"):
        export_table(good, tmp_path / "t.xlsx")


def _first_time(document: dict[str, Any]) -> None:
    document["blocks"][0]["passes"][0]["result"]["hot_ms"][0] *= 0.5


def _drop_block(document: dict[str, Any]) -> None:
    del document["blocks"][0]


def _negative(document: dict[str, Any]) -> None:
    document["blocks"][0]["passes"][0]["result"]["hot_ms"][0] = -1.0


def _nameless(document: dict[str, Any]) -> None:
    document["blocks"][0]["key"] = ""


def _twice(document: dict[str, Any]) -> None:
    document["blocks"].append(document["blocks"][0])


def _control(document: dict[str, Any]) -> None:
    document["blocks"][0]["facts"]["text"] = "stem\x1b[2J"


def _no_session(document: dict[str, Any]) -> None:
    document["sessions"] = []


def _threads(document: dict[str, Any]) -> None:
    document["header"]["threads"] = "1"


def _pass_twice(document: dict[str, Any]) -> None:
    document["blocks"][0]["passes"].append(document["blocks"][0]["passes"][0])


def _reserved(document: dict[str, Any]) -> None:
    document["documents"]["header"] = {}


def _shapeless(document: dict[str, Any]) -> None:
    document["blocks"] = {"a": 1}


@pytest.mark.parametrize("edit", [_first_time, _drop_block])
def test_an_edited_document_is_refused(good: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    export_table(good, tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text())
    edit(document)
    (tmp_path / "t.json").write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match="was changed after it was written"):
        import_table(tmp_path / "t.json", tmp_path / "again.sqlite")
    assert not (tmp_path / "again.sqlite").exists()


@pytest.mark.parametrize(
    "edit",
    [_negative, _nameless, _twice, _control, _no_session, _threads, _pass_twice, _reserved, _shapeless],
)
def test_what_cannot_be_is_refused_even_where_the_checksum_fits(
    good: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], None]
) -> None:
    export_table(good, tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text())
    edit(document)
    del document["sha256"]
    document["sha256"] = exchange._digest(document)
    (tmp_path / "t.json").write_text(json.dumps(document))
    with pytest.raises(FileFormatError) as caught:
        import_table(tmp_path / "t.json", tmp_path / "again.sqlite")
    assert "t.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "again.sqlite").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"not json",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": "dfmobile-latency-table", "version": 2}',
        b'{"format": "dfmobile-latency-table", "version": 1}',
        b'{"format": NaN}',
        b"\x1f\x8b\x08 not gzip",
        gzip.compress(b"{}", mtime=0)[:-5],
    ],
)
def test_a_foreign_document_is_refused_in_one_line(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "t.json").write_bytes(text)
    with pytest.raises(FileFormatError) as caught:
        import_table(tmp_path / "t.json", tmp_path / "again.sqlite")
    assert "\n" not in str(caught.value)


def test_a_document_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_DOCUMENT_BYTES", 10_000)
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(b" " * 1_000_000))
    with pytest.raises(FileFormatError, match="unpacks to more"):
        import_table(tmp_path / "t.json.gz", tmp_path / "again.sqlite")


def changed(content: TableContent, path: Path, factor: float) -> Path:
    """Write a table with other samples."""
    for block in content.blocks:
        for _, document in block.passes.values():
            document["hot_ms"] = [factor * value for value in document["hot_ms"]]
    write_content(path, content)
    return path


def test_merging_a_table_with_itself_changes_nothing(good: Path, tmp_path: Path) -> None:
    report = merge_tables([good, good], tmp_path / "m.sqlite")
    content = read_content(good)
    assert read_content(tmp_path / "m.sqlite") == content
    assert (report.identical, report.renumbered, report.dropped) == (content.pass_count, 0, ())


def test_other_samples_of_the_same_pass_are_renumbered(good: Path, tmp_path: Path) -> None:
    before = read_content(good)
    second = changed(read_content(good), tmp_path / "b.sqlite", 1.1)
    report = merge_tables([good, second], tmp_path / "m.sqlite")
    merged = read_content(tmp_path / "m.sqlite")
    assert report.renumbered == before.pass_count
    assert merged.pass_count == 2 * before.pass_count
    block = merged.blocks[0]
    assert sorted(block.passes) == [0, 1, 2, 3]
    assert block.passes[0] == before.blocks[0].passes[0]
    assert block.passes[2][1]["hot_ms"] == [1.1 * value for value in block.passes[0][1]["hot_ms"]]
    again = merge_tables([tmp_path / "m.sqlite", second], tmp_path / "m2.sqlite")
    assert (again.renumbered, again.passes) == (0, merged.pass_count)


def test_two_halves_make_a_whole(good: Path, tmp_path: Path) -> None:
    whole = read_content(good)
    middle = len(whole.blocks) // 2
    for name, blocks in (("a", whole.blocks[:middle]), ("b", whole.blocks[middle:])):
        write_content(tmp_path / f"{name}.sqlite", replace(whole, blocks=blocks))
    merge_tables([tmp_path / "a.sqlite", tmp_path / "b.sqlite"], tmp_path / "m.sqlite")
    assert read_content(tmp_path / "m.sqlite") == whole


def test_measured_beats_skipped(good: Path, tmp_path: Path) -> None:
    build_mini(tmp_path / "all.sqlite")
    merge_tables([good, tmp_path / "all.sqlite"], tmp_path / "m.sqlite")
    with LatencyTable.open(tmp_path / "m.sqlite") as table, LatencyTable.open(good) as first:
        assert first.skipped()
        assert table.skipped() == []
        assert table.builds()[0].latency_max_ms is None


def test_coefficients_of_one_table_do_not_pass_to_another(good: Path, tmp_path: Path) -> None:
    build_mini(tmp_path / "all.sqlite")
    report = merge_tables([good, tmp_path / "all.sqlite"], tmp_path / "m.sqlite")
    assert report.dropped == ("calibration",)


def test_tables_of_another_kind_do_not_merge(good: Path, tmp_path: Path) -> None:
    build_mini(tmp_path / "b.sqlite", KnownBackend(open_device("local"), version="2.0"))
    with pytest.raises(InputError, match=r"runtime version is 1.0 and 2.0$") as caught:
        merge_tables([good, tmp_path / "b.sqlite"], tmp_path / "m.sqlite")
    assert "lut diff" in caught.value.hint
    assert not (tmp_path / "m.sqlite").exists()


def test_one_table_is_no_merge(good: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two tables"):
        merge_tables([good], tmp_path / "m.sqlite")


def test_a_merge_that_fails_leaves_nothing(good: Path, tmp_path: Path) -> None:
    with pytest.raises(DfmobileError):
        merge_tables([good, tmp_path / "nowhere.sqlite"], tmp_path / "m.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_evidence_of_all_tables_is_kept_under_the_merged_sessions(good: Path, tmp_path: Path) -> None:
    session, entry = {"protocol": "another"}, read_content(good).blocks[0]
    sitting = read_content(good)
    result = next(iter(entry.passes.values()))[1]
    bare = {name: value for name, value in result.items() if name != "model_sha256"}
    network = {"session": 1, "model_sha256": "ab", "drift": None, "result": bare}
    documents = {
        "anchors 000001": {"measurements": []},
        "network 32x32 x": {"encoding": "x", "width": 32, "height": 32, "blocks": {"a": 1}, "passes": [network]},
    }
    write_content(tmp_path / "a.sqlite", replace(sitting, documents=documents))
    slower = {**network, "result": {**bare, "hot_ms": [9.0]}}
    again = {
        "anchors 000001": {"measurements": []},
        "network 32x32 x": {**documents["network 32x32 x"], "passes": [network, slower]},
    }
    write_content(tmp_path / "b.sqlite", replace(sitting, documents=again, sessions={1: session}))
    with LatencyTable.open(tmp_path / "b.sqlite") as table:
        gone = rejected.withdraw(table, entry.key, 0, 0, "drift", "an anchor moved")
    report = merge_tables([tmp_path / "a.sqlite", tmp_path / "b.sqlite"], tmp_path / "m.sqlite")
    merged = read_content(tmp_path / "m.sqlite")
    assert report.dropped == ()
    assert merged.sessions == {**sitting.sessions, 2: session}
    assert {"anchors 000001", "anchors 000002"} <= merged.documents.keys()
    passes = merged.documents["network 32x32 x"]["passes"]
    assert [(item["session"], item["result"]["hot_ms"]) for item in passes] == [(1, bare["hot_ms"]), (2, [9.0])]
    with LatencyTable.open(tmp_path / "m.sqlite") as table:
        assert rejected.rejected_passes(table) == [replace(gone, session=2)]
