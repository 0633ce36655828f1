"""``dfmobile variants``: from a segmentation space and a device to trained networks within a latency, and a report."""

from __future__ import annotations

import math
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfmobile.cli.common import (
    BackendOption,
    BackendOptionsOption,
    DeviceOption,
    InputOption,
    JsonOption,
    PrecisionOption,
    ThreadsOption,
    handled,
    parse_backend_options,
    parse_options,
    parse_size,
    say,
)
from dfmobile.cli.predict import table_input
from dfmobile.cli.progress import ProgressLine, duration_text
from dfmobile.cli.space import MaxDepthOption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dfmobile.architecture.spaces import SearchSpace
    from dfmobile.architecture.spaces.chains import ChainSpace
    from dfmobile.search.campaign import CampaignResult

TABLE_NAME = "table.sqlite"
DEFAULT_PRESET = "quick"


@dataclass(frozen=True)
class _Chain:
    """What all stages of a run share.

    Attributes:
        output: run folder.
        space: the whole space.
        table: latency table.
        size: of the input image.
        target_ms: networks predicted to be slower are no candidates.
        covered_only: of a recorded table: leave out what it does not cover.
        evaluator: registered name.
        seed: of the searches and the trainings.
        executor: registered name.
        workers: processes that evaluate.
        references: networks to show beside the boundary.
        command: as it was given.
    """

    output: Path
    space: ChainSpace
    table: Path
    size: tuple[int, int]
    target_ms: float
    covered_only: bool
    evaluator: str
    seed: int
    executor: str
    workers: int
    references: tuple[str, ...]
    command: str

    def search(
        self, name: str, space: SearchSpace, options: Mapping[str, Any], budget: int, mode: str = "budget"
    ) -> CampaignResult:
        """Run or continue the campaign in a folder of the run, and write its page."""
        from dfmobile.cli.campaigns import run_search
        from dfmobile.search.campaign import STORE_NAME
        from dfmobile.search.settings import CampaignSettings
        from dfmobile.search.store import CampaignStore

        folder = self.output / name
        settings = CampaignSettings(
            mode=mode, latency_range=(None, self.target_ms), budget=budget, seed=self.seed, input_size=self.size
        )
        result = run_search(
            folder, space, self.table, self.evaluator, options, settings,
            executor=self.executor, workers=self.workers, command=self.command, covered_only=self.covered_only,
        )  # fmt: skip
        with CampaignStore(folder / STORE_NAME) as store:
            store.set_meta(references=list(self.references))
        return result


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("variants")(variants)


@handled
def variants(
    space: Annotated[
        str, typer.Option("--space", help="Segmentation space: shuffle-seg, df-seg, or a FILE.yaml with decoders.")
    ],
    latency_target: Annotated[
        float, typer.Option("--latency-target", metavar="MS", min=0.0, help="Networks predicted slower are left out.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN/", help="Folder for everything.")],
    input: InputOption = None,
    device: DeviceOption = "local",
    backend: BackendOption = "litert",
    backend_option: BackendOptionsOption = None,
    threads: ThreadsOption = 1,
    precision: PrecisionOption = "fp32",
    max_depth: MaxDepthOption = None,
    passes: Annotated[int, typer.Option("--passes", min=1, max=1000, help="Fresh interpreters a block.")] = 3,
    lut: Annotated[
        Path | None, typer.Option("--lut", metavar="TABLE", help="Use this table as it is; nothing is added to it.")
    ] = None,
    covered_only: Annotated[
        bool, typer.Option("--covered-only", help="With a recorded --lut: leave out networks that it does not cover.")
    ] = False,
    evaluator: Annotated[str, typer.Option("--evaluator", help="Gives accuracies.")] = "segmentation",
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="KEY=VALUE", help="Option of the evaluator; segmentation has preset=quick by default."
        ),
    ] = None,
    backbones: Annotated[int, typer.Option("--backbones", min=1, help="Trainings of the search for backbones.")] = 8,
    decoders: Annotated[int, typer.Option("--decoders", min=1, help="Trainings of the search for decoders.")] = 8,
    keep: Annotated[
        int, typer.Option("--keep", min=1, max=100, help="Backbones, and then variants, that go on at most.")
    ] = 3,
    final_epochs: Annotated[
        int | None,
        typer.Option("--final-epochs", min=1, help="Of the variants' trainings; default: 3 times the search's."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="ARCH",
            help="Network to show beside the boundary (repeatable); default: every published segmentation network.",
        ),
    ] = None,
    measure_references: Annotated[
        bool, typer.Option(help="Measure the references' blocks too, so that the table predicts them.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    executor: Annotated[str, typer.Option("--executor", help="Runs the evaluations.")] = "local",
    workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="Processes that evaluate.")] = 2,
    json: JsonOption = False,
) -> None:
    """Measure a table, search backbones, search decoders, train the variants longer, export, re-measure, report.

    Run the same command again to continue after an interruption.
    """
    from dfmobile.architecture.spaces import open_space
    from dfmobile.cli.campaigns import measure_boundary, print_result
    from dfmobile.errors import InputError
    from dfmobile.latency.recorded_predictor import open_predictor
    from dfmobile.latency.table import LatencyTable
    from dfmobile.report.html import write_report
    from dfmobile.search import variants as plan
    from dfmobile.search.remeasure import earlier_result

    started = time.monotonic()
    if not (math.isfinite(latency_target) and latency_target > 0):
        raise InputError(f"a latency target of {latency_target:g} ms leaves nothing", hint="--latency-target 10")
    whole = plan.searchable(open_space(space, max_depth))
    size = _input_size(input, lut, whole)
    options = parse_options(option or [])
    if evaluator == "segmentation":
        options = {"preset": DEFAULT_PRESET, **options}
    longer = plan.longer_options(evaluator, options, final_epochs)  # refuses bad options before anything is measured
    names = _references(reference, size)
    if not output.parent.exists():
        raise InputError(f"folder {output.parent} does not exist", hint="make it, or choose another -o")
    output.mkdir(exist_ok=True)
    chain = _Chain(
        output=output, space=whole, table=lut or output / TABLE_NAME, size=size, target_ms=latency_target,
        covered_only=covered_only, evaluator=evaluator, seed=seed, executor=executor, workers=workers, references=names,
        command=shlex.join(["dfmobile", *sys.argv[1:]]),
    )  # fmt: skip
    told = parse_backend_options(backend_option)

    begun = (output / plan.BACKBONES / "campaign.sqlite").exists()
    say(f"1/6  table        {chain.table}" + (", as it is" if lut or begun else ""))
    if lut is None and not begun:  # a table that grew on would not be the one that the campaigns began with
        _measure_blocks(chain, device, backend, told, threads, precision, passes, measure_references)
    with LatencyTable.open(chain.table) as table:
        header = table.header
        predictor = open_predictor(table, covered_only=covered_only)
    narrowed = plan.backbone_space(whole, predictor, size, latency_target)
    plan.check_target(predictor, narrowed, size, latency_target)

    say(f"2/6  backbones    {narrowed.count()} with one decoder, {backbones} trainings at most")
    chain.search(plan.BACKBONES, narrowed, options, backbones)
    chosen = [item.encoding for item in plan.finalists([output / plan.BACKBONES], keep)]
    part = plan.decoder_space(whole, chosen)
    say(f"3/6  decoders     {part.count()} networks of {len(chosen)} backbones, {decoders} trainings at most")
    chain.search(plan.DECODERS, part, options, decoders)
    last = plan.finalists([output / plan.BACKBONES, output / plan.DECODERS], keep)
    encodings = [item.encoding for item in last]
    epochs = f", {longer['epochs']} epochs" if "epochs" in longer else ""
    say(f"4/6  variants     {len(encodings)} of both searches, trained again{epochs}: {' '.join(encodings)}")
    result = chain.search(plan.VARIANTS, plan.variant_space(whole, encodings), longer, len(encodings), "random")
    folder = output / plan.VARIANTS
    say(f"5/6  export and re-measure: {folder / 'models'}")
    measured = earlier_result(folder)
    if measured is None:
        measured = measure_boundary(folder, header, device=None if lut else device, backend_options=told)
    say("6/6  reports")
    for name, page in ((plan.BACKBONES, "backbones"), (plan.DECODERS, "decoders"), (plan.VARIANTS, "report")):
        write_report(output / name, output / f"{page}.html")
    print_result(folder, result, measured, json=json)
    say(f"done in {duration_text(time.monotonic() - started)}; open {output / 'report.html'} in a browser")


def _input_size(text: str | None, lut: Path | None, space: ChainSpace) -> tuple[int, int]:
    from dfmobile.architecture.network import check_input
    from dfmobile.latency.table import LatencyTable

    size = space.default_input
    if text:
        size = parse_size(text)
    elif lut is not None:
        with LatencyTable.open(lut) as table:
            size = table_input(table, size)
    check_input(space.template, *size)
    return size


def _references(given: Sequence[str] | None, size: tuple[int, int]) -> tuple[str, ...]:
    """Return the references, each checked to be a network."""
    from dfmobile.architecture import resolve
    from dfmobile.report.references import published_segmentation, reference_points

    names = tuple(given) if given is not None else tuple(published_segmentation())
    reference_points([resolve(name).text for name in names], None, None, *size)
    return names


def _measure_blocks(
    chain: _Chain,
    device: str,
    backend: str,
    options: dict[str, str],
    threads: int,
    precision: str,
    passes: int,
    with_references: bool,
) -> None:
    """Measure the space's blocks that are not too slow by themselves, then what the references have besides."""
    from dfmobile.architecture import build, resolve
    from dfmobile.cli.campaigns import DEVICE_PROFILE_NAME
    from dfmobile.devices.device import open_device
    from dfmobile.devices.profile import save_profile, summary
    from dfmobile.errors import InputError
    from dfmobile.latency.backends.base import open_backend
    from dfmobile.latency.builder import BuildProgress, build_table
    from dfmobile.latency.measurement import Protocol

    protocol = Protocol(passes=passes, threads=threads)
    with open_device(device) as opened:
        save_profile(opened.profile, chain.output / DEVICE_PROFILE_NAME)
        say(f"     {summary(opened.profile)}")
        runtime = open_backend(backend, opened, threads=threads, precision=precision, options=options)
        runtime.tell = say
        width, height = chain.size
        with ProgressLine("     measuring", every_s=15.0) as line:

            def progress(step: BuildProgress) -> None:
                line.update(step.done, step.total, step.block, left_s=step.seconds_left)

            report = build_table(
                chain.table, chain.space, width, height, opened, runtime, protocol,
                latency_max_ms=chain.target_ms, progress=progress, measure_caches=True, tell=say,
            )  # fmt: skip
            say(f"     {report.text}")
            for name in chain.references if with_references else ():
                try:
                    network = build(resolve(name), width, height)
                except InputError as error:
                    say(f"     {name} is not measured: {error}")
                    continue
                report = build_table(
                    chain.table, network, width, height, opened, runtime, protocol, progress=progress, tell=say
                )
                say(f"     {name}: {report.text}")
