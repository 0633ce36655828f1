"""The ncnn runner: clear errors, float32, several runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfmobile.errors import BackendError, StorageError
from dfmobile.export.ncnn import ncnn_model
from dfmobile.graph import initialise
from dfmobile.runtimes.ncnn import NcnnModel, NcnnRunner, runtime_version
from dfmobile.testing.op_graphs import residual_block

pytest.importorskip("ncnn")
GRAPH = residual_block()
MODEL = ncnn_model(GRAPH, initialise(GRAPH))
IMAGE = np.random.default_rng(0).standard_normal(GRAPH.inputs[0][1], np.float32)


def test_runs_do_not_depend_on_each_other() -> None:
    with NcnnRunner(MODEL) as runner:
        assert runner.input_shapes == [GRAPH.inputs[0][1]]
        first = runner.run([IMAGE])[0]
        other = runner.run([IMAGE + 1])[0]
        np.testing.assert_array_equal(runner.run([IMAGE])[0], first)
        assert np.abs(other - first).max() > 1e-3
    assert runtime_version()


def test_misuse_is_told() -> None:
    with NcnnRunner(MODEL) as runner:
        with pytest.raises(BackendError, match="takes float32"):
            runner.run([IMAGE[:, :1]])
        with pytest.raises(BackendError, match="takes 1 inputs"):
            runner.run([IMAGE, IMAGE])
    with pytest.raises(BackendError, match="was closed"):
        runner.run([IMAGE])


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("", "no text param file"),
        ("7767517\n1 1\nReLU a 0 1 b\n", "does not name the size"),
        ("7767517\n1 1\nInput a 0 1 b\n", "does not name the size"),
        ("7767517\n1 1\nInput a 0 1 b 0=x\n", "not readable"),
        (MODEL.param.replace("Convolution", "Conovlution"), "has a layer 'Conovlution', which ncnn"),
    ],
)
def test_what_is_no_model_is_told(param: str, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        NcnnRunner(NcnnModel(param, MODEL.binary))


def test_a_bin_that_is_cut_off_is_told() -> None:
    for share in (0.0, 0.3, 0.99):
        with pytest.raises(BackendError, match="cannot load"):
            NcnnRunner(NcnnModel(MODEL.param, MODEL.binary[: int(share * len(MODEL.binary))]))


def test_files_lie_beside_each_other(tmp_path: Path) -> None:
    (tmp_path / "m.param").write_text(MODEL.param)
    with pytest.raises(StorageError, match=r"m\.bin"):
        NcnnRunner(tmp_path / "m.param")
    (tmp_path / "m.bin").write_bytes(MODEL.binary)
    with NcnnRunner(tmp_path / "m.param", threads=2) as runner:
        assert runner.run([IMAGE])[0].dtype == np.float32
