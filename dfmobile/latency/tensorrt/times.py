"""The file that trtexec writes for ``--exportTimes``: one entry a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ExportedTimes:
    """Times of runs in order, each an array [n] of float64, ms.

    Attributes:
        compute_ms: of the GPU's kernels.
        latency_ms: copy in + kernels + copy out.
        enqueue_ms: the host's time to enqueue; a difference of two stamps of six digits.
        h2d_ms: copy to the device.
        d2h_ms: copy from the device.
        start_ms: when the kernels began, since the start of the first run.
        end_ms: when the copy out ended.
        end_to_end_ms: with waiting, up to 8.2; None in later versions.
    """

    compute_ms: Times
    latency_ms: Times
    enqueue_ms: Times
    h2d_ms: Times
    d2h_ms: Times
    start_ms: Times
    end_ms: Times
    end_to_end_ms: Times | None

    def __len__(self) -> int:
        return len(self.compute_ms)

    def without_warm_up(self, warm_up_ms: float) -> ExportedTimes:
        """Return the timed runs: those whose kernels began ``warm_up_ms`` or later, which is trtexec's own rule.

        Up to TensorRT 8.5 the file holds the runs of the warm-up, too; from 8.6 on it does not, and nothing changes.
        """
        raise NotImplementedError


def parse_export_times(data: bytes) -> ExportedTimes:
    """Read the JSON file of ``--exportTimes`` of any version from 7.1 on.

    Raises:
        FileFormatError: if it is none, damaged, or too large; or holds no run.
    """
    raise NotImplementedError
