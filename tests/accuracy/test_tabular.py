"""Accuracies from a table of trainings: the shipped one, one's own, and damaged ones."""

from __future__ import annotations

import gzip
import math
import subprocess
import sys
from pathlib import Path

import pytest

from dfmobile.accuracy import EvaluationRequest, open_evaluator
from dfmobile.accuracy.tabular import SHIPPED, TabularEvaluator, parse_table, read_table
from dfmobile.architecture import Architecture, build
from dfmobile.architecture.spaces import open_space
from dfmobile.errors import EvaluationError, FileFormatError, InputError
from dfmobile.graph import cost
from dfmobile.testing.evaluator_contract import EvaluatorContract

NOWHERE = Path("not used")
A, B, C = (f"df,stem=8s2,classes=10/{stages}" for stages in ("8/8/8", "8/8/16", "8/16/16"))
ROWS = f"""encoding,seed,accuracy_1,accuracy_10,train_loss_10,cpu_seconds
"{A}",0,0.2,0.5,1.5,3
"{A}",1,0.2,0.6,1.4,4
"{A}",2,0.3,0.7,1.3,5
"{B}",0,0.3,0.61,1.2,6
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "own.csv"
    path.write_text(ROWS)
    return path


def request(encoding: str, seed: int = 0) -> EvaluationRequest:
    return EvaluationRequest(encoding, seed, NOWHERE)


class TestShipped(EvaluatorContract):
    name = "tabular"
    options = {"epochs": 3}  # noqa: RUF012
    encoding = min(read_table(SHIPPED).rows)


def test_the_shipped_table_is_of_the_space_and_says_its_share() -> None:
    space, rows = open_space("df-cifar", max_depth=2), read_table(SHIPPED).rows
    assert space.count() == 833
    assert all(Architecture.parse(encoding) in space for encoding in rows)
    evaluator = open_evaluator("tabular")
    assert isinstance(evaluator, TabularEvaluator)
    assert f"{len(rows)} of the 833" in evaluator.describe()["coverage"]
    assert evaluator.describe()["simulated"] is False
    assert evaluator.describe()["label"] == "tabular (real trainings, validation accuracy after 10 epochs)"
    assert evaluator.encodings() == set(rows)
    # Chance is 0.1; the costs are those of the networks that the keys name.
    for encoding, seeds in list(rows.items())[:20]:
        graph = build(Architecture.parse(encoding), 32, 32).graph
        for values in seeds.values():
            assert 0.2 < values["accuracy_10"] < 0.9
            assert (values["macs"], values["params"]) == (cost.macs(graph), cost.params(graph))


def test_seeds_epochs_and_curve(table: Path) -> None:
    mean = TabularEvaluator(table=str(table)).evaluate(request(A))
    assert mean.accuracy == pytest.approx(0.6)
    assert [point["epoch"] for point in mean.curve] == [1, 10]
    assert mean.curve[1]["train_loss"] == pytest.approx(1.4)
    assert mean.details["seeds"] == [0, 1, 2]
    assert mean.details["training_cpu_seconds"] == 12
    assert mean.weights is None
    one = TabularEvaluator(table=str(table), seed=2, epochs=1)
    assert one.evaluate(request(A, seed=9)).accuracy == 0.3
    assert one.encodings() == {A}
    with pytest.raises(EvaluationError, match="with seed 2"):
        one.evaluate(request(B))


def test_noise_leaves_out_the_seed_that_chose(table: Path) -> None:
    found = TabularEvaluator(table=str(table)).describe()["noise_sd"]
    assert found == pytest.approx(math.sqrt(2) * 0.05)  # of 0.6 and 0.7
    assert parse_table(ROWS.replace(",1,0.2,0.6", ",7,0.2,0.6").encode(), table).noise_sd(10) is not None
    single = "\n".join(line for line in ROWS.splitlines() if ",1," not in line and ",2," not in line)
    assert parse_table(single.encode(), table).noise_sd(10) is None


def test_what_the_table_lacks_is_said(table: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no accuracy of .*8/16/16: the table own.csv has 2 architectures"):
        TabularEvaluator(table=str(table)).evaluate(request(C))
    with pytest.raises(EvaluationError, match="of the 833 architectures of df-cifar"):
        TabularEvaluator().evaluate(request("df/64/64/64"))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"seed": 5}, "seed 5"),
        ({"seed": "first"}, "first"),
        ({"seed": True}, "True"),
        ({"epochs": 2}, "after 2 epochs"),
        ({"epochs": 10.0}, "10.0"),
        ({"table": "no/such.csv"}, "does not exist"),
        ({"table": 3}, "not a path"),
    ],
)
def test_bad_options(options: dict[str, object], word: str, table: Path) -> None:
    with pytest.raises(InputError, match=word):
        TabularEvaluator(**{"table": str(table), **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "columns"),
        (ROWS.encode().splitlines()[0], "no rows"),
        (b"encoding,seed\n", "columns"),
        (b"encoding,accuracy_x\n", "whole number"),
        (b"encoding,accuracy_1,accuracy_1\n", "columns"),
        (f'encoding,accuracy_1\n"{A}",1.5\n'.encode(), "line 2: accuracy_1"),
        (f'encoding,accuracy_1\n"{A}",nan\n'.encode(), "line 2: accuracy_1"),
        (f'encoding,accuracy_1\n"{A}",x\n'.encode(), "line 2"),
        (f'encoding,accuracy_1\n"{A}"\n'.encode(), "1 cells under 2"),
        (f'encoding,seed,accuracy_1\n"{A}",-1,0.5\n'.encode(), "seed"),
        (f'encoding,accuracy_1\n"{A}",0.5\n"{A}",0.5\n'.encode(), "line 3.*twice"),
        (b"encoding,accuracy_1\ndf/8/8,0.5\n", "line 2: malformed"),
        (b'encoding,accuracy_1\n"df/8', "sound CSV"),
        (b"\xff\xfe", "sound CSV"),
        (gzip.compress(ROWS.encode())[:-20], "cut off|sound CSV"),
        (b"\x1f\x8b\x00", "sound CSV|cut off"),
    ],
)
def test_damaged_tables_are_one_clear_line(content: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=word) as caught:
        TabularEvaluator(table=str(path))
    assert "t.csv" in str(caught.value)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(bytes(3 * 2**20), 1))
    monkeypatch.setattr("dfmobile.accuracy.tabular._MAX_BYTES", 2**21)
    with pytest.raises(FileFormatError, match="2 MiB"):
        read_table(path)


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from dfmobile.accuracy import open_evaluator; open_evaluator('tabular').describe()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
