"""The report as one HTML file that loads nothing, runs no script, and trusts no text it is given.

Everything that is not drawn here is escaped by the template engine; the Content-Security-Policy allows the one
style sheet by its hash and nothing else.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from dfmobile import __version__
from dfmobile.files import atomic_write
from dfmobile.report import numbers
from dfmobile.report.agreement_plot import agreement_plot
from dfmobile.report.boundary_plot import boundary_plot
from dfmobile.report.curves_plot import curve_axes, curve_plot
from dfmobile.report.data import ReportData, agreement
from dfmobile.report.heat_map import colour_bar, colour_scale, heat_map, panels
from dfmobile.report.progress_plot import alive_plot, hypervolume_plot, hypervolumes
from dfmobile.report.svg import Element, serialise

MOST_CURVES = 48


def write_report(run_folder: Path, output: Path, references: Sequence[str] = ()) -> Path:
    """Write the page about a search.

    Args:
        run_folder: what ``dfmobile search -o`` or ``dfmobile quickstart`` wrote.
        output: the page.
        references: networks (zoo names, encodings) to show the latencies of, besides those that the campaign has.

    Returns:
        The page's path.

    Raises:
        InputError: if the folder has no campaign, or a reference is no network.
        FileFormatError: if the campaign or the table is damaged.
        StorageError: if the page cannot be written.
    """
    from dfmobile.report.collect import collect

    atomic_write(output, render(collect(run_folder, references)))
    return output


def render(data: ReportData) -> str:
    """Return the page as text; equal data give an equal page."""
    style = "\n".join(template_text(name) for name in ("palette.css", "chart.css", "page.css"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = _environment().get_template("report.html.j2")
    return page.render(data=data, version=__version__, style=Markup(style), style_hash=digest, **_context(data))  # noqa: S704  (our own file)


def template_text(name: str) -> str:
    """Return a packaged template or style sheet."""
    source, _, _ = _loader().get_source(_environment(), name)
    return source


@functools.cache
def _loader() -> jinja2.PackageLoader:
    return jinja2.PackageLoader("dfmobile.report", "templates")


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=_loader(),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    names = (
        "number",
        "ms",
        "ms_interval",
        "ms_with_half_width",
        "percent",
        "signed_percent",
        "count",
        "scaled",
        "duration",
    )
    environment.filters.update({name: getattr(numbers, name) for name in names})
    environment.filters["stages"] = str.removeprefix
    return environment


def _finalize(value: Any) -> Any:
    """Drawings and escaped markup pass; any other text loses what a page cannot hold."""
    return numbers.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _drawn(element: Element | None) -> Markup | None:
    # Escaped by the XML serialiser; inside HTML the namespace is implied.
    return None if element is None else Markup(serialise(element))  # noqa: S704


def _context(data: ReportData) -> dict[str, Any]:
    """Return what the template needs besides the data."""
    areas: list[float] = []
    if data.evaluated and data.worst_ms is not None:
        areas = hypervolumes(data.evaluated, data.worst_ms, min(item.accuracy for item in data.evaluated))
    axes = curve_axes(data.evaluated)
    with_curve = [item for item in data.evaluated if item.curve]
    found, others = panels(data.blocks)
    colours = colour_scale(data.blocks)
    others_at = {id(block) for block in others}
    strip = data.strip
    return {
        "tiles": _tiles(data),
        "boundary_wide": _drawn(boundary_plot(data, 1080, 560, "clip-boundary-wide")),
        "boundary_narrow": _drawn(boundary_plot(data, 372, 500, "clip-boundary-narrow")),
        "shared_head": _shared_head([item.encoding for item in data.evaluated]),
        "strip_rows": []
        if strip is None
        else zip(strip.edges_ms, strip.edges_ms[1:], strip.pruned, strip.alive, strict=False),
        "agreement": agreement(data.winners),
        "agreement_plot": _drawn(agreement_plot(data.winners, 420, "clip-agreement")),
        "progress_text": _progress_text(data),
        "alive_plot": _drawn(alive_plot(data.evaluated, data.candidates, 420, 260)),
        "hypervolume_plot": _drawn(hypervolume_plot(areas, 420, 260)),
        "hypervolume_rows": [(area / areas[-1], area) for area in areas] if areas and areas[-1] > 0 else [],
        "curves": [] if axes is None else [(item, _drawn(curve_plot(item, axes))) for item in with_curve[:MOST_CURVES]],
        "curves_left_out": max(0, len(with_curve) - MOST_CURVES),
        "heat_maps": [] if colours is None else [(panel.title, _drawn(heat_map(panel, colours))) for panel in found],
        "colour_bar": None if colours is None else _drawn(colour_bar(colours)),
        "other_blocks": others,
        "stage_blocks": [block for block in data.blocks if id(block) not in others_at],
        "not_measured": sum(item.measured_ms is None for item in data.winners),
    }


def _shared_head(encodings: Sequence[str]) -> str:
    """Return family and options with the slash after them, where all encodings have the same; otherwise nothing."""
    heads = {encoding.partition("/")[0] + "/" for encoding in encodings}
    return heads.pop() if len(heads) == 1 else ""


def _tiles(data: ReportData) -> list[tuple[str, str, str]]:
    pruned = data.pruned
    share = numbers.percent(pruned / data.candidates) + " of the candidates" if pruned and data.candidates else ""
    verb = "trained" if data.accuracy_is_trained else "evaluated, not trained"
    tiles = [
        ("candidates", numbers.count(data.candidates), f"of {numbers.count(data.space_size)} in {data.space}"),
        ("evaluated", numbers.count(len(data.evaluated)), verb),
        ("ruled out, never evaluated", numbers.count(pruned), share),
        ("winners", numbers.count(len(data.winners)), "on the boundary"),
    ]
    if data.winners:
        best, fastest = data.winners[-1], data.winners[0]
        tiles.append(
            ("most accurate", numbers.percent(best.accuracy), _latency_text(best.predicted_ms, best.measured_ms))
        )
        tiles.append(
            ("fastest winner", _latency(fastest.predicted_ms, fastest.measured_ms), numbers.percent(fastest.accuracy))
        )
    found = agreement(data.winners)
    if found is not None:
        tiles.append(("prediction error", numbers.percent(found.mape), f"mean of {found.n} re-measured winners"))
    return tiles


def _latency(predicted_ms: float, measured_ms: float | None) -> str:
    return numbers.ms(predicted_ms if measured_ms is None else measured_ms)


def _latency_text(predicted_ms: float, measured_ms: float | None) -> str:
    return f"{_latency(predicted_ms, measured_ms)} {'predicted' if measured_ms is None else 'measured'}"


def _range_text(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"{numbers.ms(high)} or less" if high is not None else f"{numbers.ms(low or 0.0)} or more"
    return f"{numbers.ms(low)} to {numbers.ms(high)}"


def _progress_text(data: ReportData) -> str:
    low, high = data.latency_range
    parts = [f"{numbers.count(data.space_size)} architectures are in the space {data.space}"]
    if low is not None or high is not None:
        parts.append(f"{numbers.count(data.candidates)} of them are candidates, predicted at {_range_text(low, high)}")
    elif data.candidates < data.space_size:
        parts.append(f"{numbers.count(data.candidates)} of them are candidates: the evaluator can evaluate no others")
    parts.append(f"{numbers.count(len(data.evaluated))} were evaluated")
    if data.in_flight:
        parts.append(f"{numbers.count(data.in_flight)} were still being evaluated when this page was written")
    if data.pruned is not None:
        parts.append(f"{numbers.count(data.pruned)} were ruled out without an evaluation")
    if data.alive is not None:
        parts.append(f"{numbers.count(data.alive)} were left, neither evaluated nor ruled out")
    text = "; ".join(parts) + "."
    seconds = [item.seconds for item in data.evaluated if item.seconds]
    return text + (f" All evaluations together took {numbers.duration(sum(seconds))}." if seconds else "")
