"""The evaluator ``tabular``: accuracies of trainings that were run once and written down. Needs no torch."""

from __future__ import annotations

import csv
import hashlib
import math
import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal

from dfmobile.accuracy.base import Evaluation, EvaluationRequest, Evaluator
from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces import open_space
from dfmobile.errors import EvaluationError, FileFormatError, InputError
from dfmobile.files import read_bytes

SHIPPED = Path(__file__).parent / "data" / "df_cifar_k2.csv.gz"
SHIPPED_SPACE, SHIPPED_DEPTH = "df-cifar", 2
_MAX_FILE_BYTES, _MAX_BYTES, _MAX_ROWS = 64 * 2**20, 256 * 2**20, 2_000_000
_ACCURACY = "accuracy_"
_HINT = "columns: encoding, seed, accuracy_<epochs>; see docs/reference/tabular-benchmark.md"


@dataclass(frozen=True)
class AccuracyTable:
    """Trainings by architecture and seed.

    Attributes:
        name: of the file.
        sha256: of its unpacked content.
        epochs: after which accuracies are there, ascending.
        rows: encoding → seed → column → value.
    """

    name: str
    sha256: str
    epochs: tuple[int, ...]
    rows: dict[str, dict[int, dict[str, float]]]

    def noise_sd(self, epochs: int) -> float | None:
        """Return the standard deviation of accuracy between seeds, pooled; None if no architecture has two.

        The first seed is left out where there are three or more: the architectures with more seeds were chosen by
        their result with the first one.
        """
        squares, freedom = 0.0, 0
        for seeds in self.rows.values():
            chosen = sorted(seeds)[1:] if len(seeds) > 2 else sorted(seeds)
            values = [seeds[seed][f"{_ACCURACY}{epochs}"] for seed in chosen]
            if len(values) > 1:
                squares += math.fsum((value - fmean(values)) ** 2 for value in values)
                freedom += len(values) - 1
        return math.sqrt(squares / freedom) if freedom else None


@lru_cache(maxsize=4)
def _read(path: Path, version: tuple[int, int]) -> AccuracyTable:
    return parse_table(read_bytes(path, _MAX_FILE_BYTES), path)


def read_table(path: Path) -> AccuracyTable:
    """Read a table, CSV or gzipped CSV; the last ones read are kept.

    Raises:
        InputError: if there is no such file.
        FileFormatError: if it is damaged or not such a table.
        StorageError: if it cannot be read.
    """
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"table {path} does not exist", hint="--option table=FILE.csv, or leave it out")
    status = path.stat()
    return _read(path, (status.st_mtime_ns, status.st_size))


def parse_table(content: bytes, path: Path) -> AccuracyTable:
    """Make a table of a file's content.

    Raises:
        FileFormatError: naming file and line, if it is damaged, doubled, too large, or not such a table.
    """
    try:
        if content[:2] == b"\x1f\x8b":
            unpacker = zlib.decompressobj(wbits=31)
            content = unpacker.decompress(content, _MAX_BYTES)
            if not unpacker.eof:
                raise FileFormatError(f"{path} is cut off, or unpacks to more than {_MAX_BYTES >> 20} MiB", hint=_HINT)
        lines = csv.reader(content.decode().splitlines(), strict=True)
        header = next(lines, [])
        epochs = _epochs(header, path)
        rows: dict[str, dict[int, dict[str, float]]] = {}
        for number, cells in enumerate(lines, 2):
            if number > _MAX_ROWS:
                raise FileFormatError(f"{path} has more than {_MAX_ROWS} rows", hint=_HINT)
            encoding, seed, values = _row(header, cells, f"{path}, line {number}")
            if rows.setdefault(encoding, {}).setdefault(seed, values) is not values:
                raise FileFormatError(f"{path}, line {number}: {encoding} with seed {seed} is there twice", hint=_HINT)
    except (UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise FileFormatError(f"{path} is not a sound CSV file: {error}", hint=_HINT) from error
    if not rows:
        raise FileFormatError(f"{path} has no rows", hint=_HINT)
    return AccuracyTable(path.name, hashlib.sha256(content).hexdigest(), epochs, rows)


def _epochs(header: list[str], path: Path) -> tuple[int, ...]:
    names = [name.removeprefix(_ACCURACY) for name in header if name.startswith(_ACCURACY)]
    if "encoding" not in header or not names or len(set(header)) < len(header):
        raise FileFormatError(f"{path} has not the columns of a table of accuracies", hint=_HINT)
    if not all(name.isascii() and name.isdigit() and 0 < len(name) < 7 and name[0] != "0" for name in names):
        raise FileFormatError(f"{path}: accuracy_<epochs> wants a whole number of epochs", hint=_HINT)
    return tuple(sorted(int(name) for name in names))


def _row(header: list[str], cells: list[str], where: str) -> tuple[str, int, dict[str, float]]:
    if len(cells) != len(header):
        raise FileFormatError(f"{where}: {len(cells)} cells under {len(header)} columns", hint=_HINT)
    found = dict(zip(header, cells, strict=True))
    try:
        encoding = Architecture.parse(found.pop("encoding")).text
        seed = int(found.pop("seed", "0"))
        values = {name: float(cell) for name, cell in found.items()}
    except (InputError, ValueError) as error:
        raise FileFormatError(f"{where}: {error}", hint=_HINT) from error
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    bad += [name for name, value in values.items() if name.startswith(_ACCURACY) and not 0.0 <= value <= 1.0]
    if bad or not 0 <= seed < 2**32:
        raise FileFormatError(f"{where}: {bad[0] if bad else 'seed'} is out of range", hint=_HINT)
    return encoding, seed, values


class TabularEvaluator(Evaluator):
    """Looks accuracies up in a table of trainings; the shipped one is of ``df-cifar`` at depth 2.

    The seed of a request changes nothing: a table has the seeds that it has.

    Args:
        table: path of a CSV file, gzipped or not; empty: the shipped table.
        seed: of the trainings to look up; ``"mean"``: the mean over all seeds that an architecture has.
        epochs: after how many of them; None: the most that the table has.

    Raises:
        InputError: if an option is out of range, the file does not exist, or the table lacks these epochs or seed.
        FileFormatError: if it is damaged.
    """

    name: ClassVar[str] = "tabular"

    def __init__(self, table: str = "", seed: int | Literal["mean"] = "mean", epochs: int | None = None) -> None:
        if not isinstance(table, str):
            raise InputError(f"table {table!r} is not a path")
        if seed != "mean" and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise InputError(f"seed is {seed!r}", hint="mean, or a seed that the table has, for example 0")
        self._shipped = not table
        self._table = read_table(Path(table) if table else SHIPPED)
        self._seed = seed
        self._epochs = self._table.epochs[-1] if epochs is None else epochs
        if type(self._epochs) is not int or self._epochs not in self._table.epochs:
            raise InputError(
                f"{self._table.name} has no accuracies after {epochs!r} epochs",
                hint=f"epochs: {', '.join(str(number) for number in self._table.epochs)}",
            )
        if not self.encodings():
            raise InputError(f"{self._table.name} has no training with seed {seed}", hint="--option seed=mean")

    @property
    def label(self) -> str:
        """What the accuracy is."""
        return f"tabular (real trainings, validation accuracy after {self._epochs} epochs)"

    @cached_property
    def coverage(self) -> str:
        """How much of what the table is about it has, in words."""
        count = len(self.encodings())
        if not self._shipped:
            return f"the table {self._table.name} has {count} architectures"
        total = open_space(SHIPPED_SPACE, max_depth=SHIPPED_DEPTH).count()
        return f"the shipped table has {count} of the {total} architectures of {SHIPPED_SPACE} at depth {SHIPPED_DEPTH}"

    def describe(self) -> dict[str, Any]:
        """See base class."""
        return {
            "name": self.name,
            "label": self.label,
            "simulated": False,
            "table": self._table.name,
            "table_sha256": self._table.sha256,
            "coverage": self.coverage,
            "seed": self._seed,
            "epochs": self._epochs,
            "noise_sd": self._table.noise_sd(self._epochs),
        }

    def encodings(self) -> frozenset[str]:
        """See base class."""
        if self._seed == "mean":
            return frozenset(self._table.rows)
        return frozenset(encoding for encoding, seeds in self._table.rows.items() if self._seed in seeds)

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """See base class.

        Raises:
            EncodingError: if the encoding is malformed.
            EvaluationError: if the table lacks the architecture.
        """
        encoding = Architecture.parse(request.encoding).text
        seeds = self._table.rows.get(encoding, {})
        chosen = sorted(seeds) if self._seed == "mean" else [seed for seed in seeds if seed == self._seed]
        if not chosen:
            raise EvaluationError(
                f"no accuracy of {encoding}: {self.coverage}"
                + ("" if self._seed == "mean" else f" with seed {self._seed}"),
                hint=f"search --space {SHIPPED_SPACE}, or --evaluator training" if self._shipped else "another table",
            )

        def value(column: str) -> float:
            return fmean(seeds[seed][column] for seed in chosen)

        present = seeds[chosen[0]]
        curve = []
        for epoch in self._table.epochs:
            if epoch > self._epochs:
                break
            point: dict[str, Any] = {"epoch": epoch}
            for name in ("train_loss", "validation_loss"):
                if f"{name}_{epoch}" in present:
                    point[name] = value(f"{name}_{epoch}")
            curve.append({**point, "validation_accuracy": value(f"{_ACCURACY}{epoch}")})
        details: dict[str, Any] = {
            "label": self.label,
            "no_weights": "a table has accuracies, no weights",
            "trained_encoding": encoding,
            "seeds": chosen,
            "epochs": self._epochs,
        }
        if "cpu_seconds" in present:
            details["training_cpu_seconds"] = math.fsum(seeds[seed]["cpu_seconds"] for seed in chosen)
        return Evaluation(curve[-1]["validation_accuracy"], seconds=0.0, details=details, curve=curve)
