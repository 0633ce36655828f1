"""What every backend must do; inherit it in your own tests.

Example:
    >>> class TestMyBackend(BackendContract):
    ...     @pytest.fixture
    ...     def backend(self):
    ...         return MyBackend(open_device("local"))
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dfmobile.errors import DfmobileError, InputError
from dfmobile.graph import Graph, GraphBuilder, reference
from dfmobile.latency.backends.base import Backend, MeasureJob
from dfmobile.latency.inprocess import random_inputs
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.models import cheap_weights, timing_model
from dfmobile.latency.output_check import compare_outputs
from dfmobile.latency.phases import Phase, PhasesResult


class BackendContract:
    """Inherit, and define a fixture ``backend``: one thread, ready to measure.

    Where dfmobile cannot write the backend's model format, define the fixture ``model_path`` too: a small model.
    """

    protocol = Protocol(passes=1, runs=4, cold_runs=2, warm_up_ms=1.0, warm_up_limit_ms=50.0)

    @pytest.fixture
    def model_path(self, backend: Backend, tmp_path: Path) -> Path:
        """A small model: a conv with ReLU."""
        builder = GraphBuilder()
        value = builder.conv(builder.input("input0", (1, 8, 16, 16)), 16, 3, padding=1, bias=True)
        path = tmp_path / f"conv.{backend.model_format}"
        path.write_bytes(self.model_of(backend, builder.build(builder.relu(value))))
        return path

    def model_of(self, backend: Backend, graph: Graph) -> bytes:
        """Return a graph as a file that the backend measures."""
        return timing_model(graph, backend.model_format, backend.file_precision, backend.file_options.opset)

    def measure_one(self, backend: Backend, path: Path, protocol: Protocol) -> PassResult:
        """Measure one job and return its only result."""
        results = list(backend.measure([MeasureJob("only", path, protocol)]))
        assert [identifier for identifier, _ in results] == ["only"]
        return results[0][1]

    def test_identity_is_stable_and_complete(self, backend: Backend) -> None:
        """A table belongs to one runtime, so its name, version and flags never change by themselves."""
        identity = backend.identity()
        assert identity == backend.identity()
        assert identity.name
        assert identity.version
        assert identity.library_sha256 is None or len(bytes.fromhex(identity.library_sha256)) == 32
        json.dumps(identity.flags, allow_nan=False)

    def test_evidence_is_json_and_stable(self, backend: Backend) -> None:
        """It is stored with every session."""
        assert json.loads(json.dumps(backend.evidence(), allow_nan=False)) == backend.evidence()

    def test_affinity_is_a_mask(self, backend: Backend) -> None:
        """Hexadecimal without 0x, or None."""
        mask = backend.affinity()
        assert mask == backend.affinity()
        assert mask is None or int(mask, 16) > 0

    def test_every_job_has_one_result(self, backend: Backend, model_path: Path) -> None:
        """Whatever order they come in."""
        jobs = [MeasureJob(f"job {number}", model_path, self.protocol) for number in range(3)]
        results = list(backend.measure(jobs))
        assert sorted(identifier for identifier, _ in results) == ["job 0", "job 1", "job 2"]

    def test_it_can_tell(self, backend: Backend) -> None:
        """Whoever opens it may replace how it tells people what goes on."""
        said: list[str] = []
        backend.tell = said.append
        backend.tell("a line")
        assert said == ["a line"]

    def test_no_jobs_no_results(self, backend: Backend) -> None:
        """An empty stream ends."""
        assert list(backend.measure([])) == []

    def test_samples_are_positive_and_as_many_as_asked(self, backend: Backend, model_path: Path) -> None:
        """Raw samples, nothing filtered; or one value that says what it stands for."""
        result = self.measure_one(backend, model_path, self.protocol)
        if result.aggregate:
            assert len(result.hot_ms) == 1
            assert result.cold_ms == []
            assert result.extra["statistic"] in ("median", "average")
            assert result.timed_runs >= self.protocol.min_runs
        elif backend.processor == "gpu":
            assert len(result.hot_ms) >= 4  # a process costs seconds, so it may time more than it was asked to
            assert result.cold_ms == []
        else:
            assert len(result.hot_ms) == 4
            assert len(result.cold_ms) == 2
        samples = [*result.hot_ms, *result.cold_ms, *result.warm_up_ms]
        assert all(math.isfinite(sample) and sample > 0 for sample in samples)
        assert result.warm_up_runs >= self.protocol.min_warm_up_runs
        assert result.kernel_ms >= sum(result.hot_ms) * 0.999
        assert result.kernel_ms >= (result.mean_ms or 0.0) * result.timed_runs * 0.999
        assert not result.stopped

    def test_one_thread_is_timed_by_its_cpu_clock_or_says_otherwise(self, backend: Backend, model_path: Path) -> None:
        """The clock is recorded with contamination evidence, which a tool that gives aggregates only has not."""
        result = self.measure_one(backend, model_path, self.protocol)
        assert result.clock in ("thread-cpu", "wall", "gpu-events")
        evidence = result.involuntary_switches is not None or result.cpu_wall_ratio is not None
        assert evidence or (result.aggregate and result.clock == "wall") or result.clock == "gpu-events"

    def test_a_result_survives_json(self, backend: Backend, model_path: Path) -> None:
        """Tables store results as JSON and check them when reading."""
        result = self.measure_one(backend, model_path, self.protocol)
        document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert PassResult.from_dict(document, "the result") == result

    def test_outputs_are_the_references_or_not_given(self, backend: Backend, tmp_path: Path) -> None:
        """Builders compare them before they record a block; None says that the backend cannot give them back."""
        builder = GraphBuilder()
        value = builder.conv(builder.input("input0", (1, 4, 6, 9)), 5, 3, padding=1, bias=True)
        graph = builder.build(builder.relu(value))
        path = tmp_path / f"outputs.{backend.model_format}"
        try:
            path.write_bytes(self.model_of(backend, graph))
        except InputError:
            pytest.skip(f"dfmobile cannot write {backend.model_format} files, so their outputs are not known")
        values = random_inputs([(1, 4, 6, 9)])
        self.measure_one(backend, path, self.protocol)
        for given in (values, [values[0] * np.float32(0.5)], values):
            found = backend.outputs(path, given)
            if found is None:
                return
            expected = reference.run(graph, cheap_weights(graph), {"input0": given[0]})[graph.outputs[0]]
            assert len(found.values) == len(found.steps) == 1
            assert not compare_outputs(found.values[0], expected, found.steps[0], backend.precision).wrong

    def test_cold_runs_can_be_left_out(self, backend: Backend, model_path: Path) -> None:
        """Zero means none."""
        protocol = dataclasses.replace(self.protocol, cold_runs=0)
        assert self.measure_one(backend, model_path, protocol).cold_ms == []

    def test_a_model_above_the_limit_is_stopped_after_its_warm_up(self, backend: Backend, model_path: Path) -> None:
        """Its warm-up is the evidence."""
        result = self.measure_one(backend, model_path, dataclasses.replace(self.protocol, stop_above_ms=1e-9))
        assert result.stopped
        assert result.hot_ms == []
        assert result.warm_up_ms

    def test_a_model_below_the_limit_is_measured(self, backend: Backend, model_path: Path) -> None:
        """An hour is more than it takes."""
        result = self.measure_one(backend, model_path, dataclasses.replace(self.protocol, stop_above_ms=3.6e6))
        assert not result.stopped
        assert result.hot_ms

    def test_jobs_may_be_added_because_of_results(self, backend: Backend, model_path: Path) -> None:
        """The stream of jobs is never waited out: here it has no end."""

        def endless() -> Iterator[MeasureJob]:
            for number in itertools.count():
                yield MeasureJob(str(number), model_path, self.protocol)

        results = backend.measure(endless())
        assert {next(results)[0] for _ in range(3)}
        close = getattr(results, "close", None)
        if close is not None:
            close()

    def test_it_keeps_a_model_running_or_says_that_it_cannot(self, backend: Backend, model_path: Path) -> None:
        """A capability: one result a phase, or an error that names the backend and the option."""
        phases = [Phase("first", 0.0, 3), Phase("second", 0.02, 2, period_s=0.005)]
        try:
            result = backend.run_phases(model_path, phases, "--cadence")
        except InputError as error:
            said = str(error)
        else:
            self.check_phases(result)
            return
        assert backend.name in said
        assert "--cadence" in said

    def check_phases(self, result: PhasesResult) -> None:
        """Check what three runs back to back and two paced ones left."""
        assert [phase.name for phase in result.phases] == ["first", "second"]
        assert result.phases[0].runs == 3
        assert result.phases[1].runs >= 2
        for phase in result.phases:
            assert len(phase.start_s) == len(phase.wall_ms) == phase.runs
            assert list(phase.start_s) == sorted(phase.start_s)
            assert all(math.isfinite(value) and value > 0 for value in phase.wall_ms)
            assert len(phase.cpu_ms) in (0, phase.runs)
            assert len(phase.conditions) >= 2

    @pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
    def test_a_truncated_model_is_refused_by_name(self, backend: Backend, model_path: Path, kept: float) -> None:
        """Never a crash, and the message says which file."""
        content = model_path.read_bytes()
        size = int(kept * len(content)) if isinstance(kept, float) else kept
        model_path.write_bytes(content[:size])
        with pytest.raises(DfmobileError, match=model_path.name):
            self.measure_one(backend, model_path, self.protocol)

    def test_another_kind_of_file_is_refused_by_name(self, backend: Backend, model_path: Path) -> None:
        """Text is no model."""
        model_path.write_text("this is no model\n" * 100)
        with pytest.raises(DfmobileError, match=model_path.name):
            self.measure_one(backend, model_path, self.protocol)

    def test_a_missing_model_is_refused_by_name(self, backend: Backend, tmp_path: Path) -> None:
        """No such file."""
        with pytest.raises(DfmobileError, match=r"nowhere"):
            self.measure_one(backend, tmp_path / f"nowhere.{backend.model_format}", self.protocol)

    def test_it_still_works_after_a_bad_model(self, backend: Backend, model_path: Path, tmp_path: Path) -> None:
        """One bad file does not take the backend down."""
        with pytest.raises(DfmobileError):
            self.measure_one(backend, tmp_path / "nowhere", self.protocol)
        assert self.measure_one(backend, model_path, self.protocol).hot_ms

    def test_an_unknown_precision_is_refused(self, backend: Backend) -> None:
        """With the precisions that there are."""
        with pytest.raises(InputError, match="fp7"):
            type(backend)(backend.device, threads=1, precision="fp7")

    def test_no_threads_are_refused(self, backend: Backend) -> None:
        """A runtime has one thread at least."""
        with pytest.raises(InputError, match="threads"):
            type(backend)(backend.device, threads=0)
