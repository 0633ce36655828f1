"""campaign.sqlite refuses what it cannot trust and says why."""

import sqlite3
from pathlib import Path

import pytest

from dfmobile.errors import FileFormatError, InputError, StorageError
from dfmobile.search.store import CampaignStore


def _filled(path: Path, draws: int = 3) -> Path:
    with CampaignStore(path, create=True) as store:
        store.set_meta(budget=None, identity={"seed": 0})
        for number in range(1, draws + 1):
            store.add_draw(number, f"df/64/64/{64 * number}", (0, 0, number), 1.0 * number)
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = _filled(tmp_path / "campaign.sqlite")
    with CampaignStore(path) as store:
        store.add_result(1, 0.5, 1.5, {"label": "ü"}, [{"epoch": 1, "loss": 0.1}], "trainings/a/weights.npz")
        store.add_applied(1, pruned=7, alive=20)
    with CampaignStore(path) as store:
        first, *others = store.draws()
        assert (first.accuracy, first.seconds, first.pruned, first.alive) == (0.5, 1.5, 7, 20)
        assert first.details == {"label": "ü"}
        assert first.curve == [{"epoch": 1, "loss": 0.1}]
        assert first.row == (0, 0, 1)
        assert store.evaluations() == [first]
        assert store.in_flight() == others
        assert store.boundary() == [first]
        assert store.meta() == {"budget": None, "identity": {"seed": 0}}


def test_an_architecture_is_drawn_once(tmp_path: Path) -> None:
    path = _filled(tmp_path / "campaign.sqlite")
    with CampaignStore(path) as store, pytest.raises(FileFormatError, match="UNIQUE"):
        store.add_draw(4, "df/64/64/64", (0, 0, 1), 1.0)


def test_a_missing_campaign_is_not_made_by_looking_at_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        CampaignStore(tmp_path / "campaign.sqlite")
    assert not list(tmp_path.iterdir())


def test_a_truncated_campaign_is_refused(tmp_path: Path) -> None:
    path = _filled(tmp_path / "campaign.sqlite", draws=20)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(FileFormatError, match="damaged"), CampaignStore(path) as store:
        store.draws()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "campaign.sqlite"
    path.write_text("not a database, but long enough to have a header " * 10)
    with pytest.raises(FileFormatError, match="not a campaign"):
        CampaignStore(path)


def test_another_application_s_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "campaign.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(FileFormatError, match="not a campaign of dfmobile"):
        CampaignStore(path, create=True)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = _filled(tmp_path / "campaign.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(FileFormatError, match="schema version 99; this dfmobile reads version 1"):
        CampaignStore(path)


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot use"):
        CampaignStore(tmp_path / "missing" / "campaign.sqlite", create=True)
