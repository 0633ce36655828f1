"""Plots: ticks are round and inside, marks are where the numbers are, nothing has an invented accuracy."""

from __future__ import annotations

import itertools
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import report_examples
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.report import numbers
from dfmobile.report.agreement_plot import agreement_plot
from dfmobile.report.axes import LabelPlacer
from dfmobile.report.boundary_plot import boundary_plot
from dfmobile.report.curves_plot import curve_axes
from dfmobile.report.data import ReferencePoint
from dfmobile.report.heat_map import ColourScale, colour_scale, panels
from dfmobile.report.progress_plot import alive_plot, hypervolume_plot, hypervolumes
from dfmobile.report.scales import Scale, choose_kind, domain, linear_ticks, log_ticks, tick_labels
from dfmobile.report.standalone import boundary_svg
from dfmobile.report.svg import text_width

latencies = st.floats(1e-4, 1e5)


@given(latencies, st.floats(1.0001, 1e6), st.integers(2, 12))
def test_ticks_are_inside_ascending_and_few(low: float, factor: float, most: int) -> None:
    high = low * factor
    for ticks in (linear_ticks(low, high, most), log_ticks(low, high, most)):
        assert len(ticks) <= most
        assert ticks == sorted(set(ticks))
        assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in ticks)
        assert len(set(tick_labels(ticks))) == len(ticks)  # no two ticks read the same


@given(st.lists(latencies, max_size=6))
def test_a_domain_holds_all_values_and_is_never_empty(values: list[float]) -> None:
    for kind in ("linear", "log"):
        low, high = domain(values, kind)  # type: ignore[arg-type]
        assert low < high
        assert all(low <= value <= high for value in values)


@given(latencies, st.floats(1.01, 1e4), st.floats(0, 1))
def test_scales_are_monotone_and_hit_their_ends(low: float, factor: float, share: float) -> None:
    for kind in ("linear", "log"):
        scale = Scale(kind, low, low * factor, 100, 500)  # type: ignore[arg-type]
        assert scale(low) == pytest.approx(100)
        assert scale(low * factor) == pytest.approx(500)
        assert 100 - 1e-6 <= scale(low * factor**share) <= 500 + 1e-6


def test_wide_spans_are_logarithmic() -> None:
    assert choose_kind(0.1, 2.0) == "log"
    assert choose_kind(1.0, 2.0) == "linear"
    assert choose_kind(0.0, 2.0) == "linear"


def marks(drawing: ElementTree.Element, class_: str) -> list[ElementTree.Element]:
    return [item for item in drawing.iter() if item.get("class") == class_ and item.find("title") is not None]


def test_only_evaluated_architectures_have_points() -> None:
    data = report_examples.full()
    drawing = boundary_plot(data, 1000, 560, "clip")
    assert len(marks(drawing, "winner")) == len(data.winners)
    assert len(marks(drawing, "measured")) == len(data.winners)
    assert len(marks(drawing, "evaluated")) == len(data.evaluated) - len(data.winners)
    floor = max(float(item.get("cy", "0")) for item in marks(drawing, "evaluated"))
    bars = marks(drawing, "pruned")
    assert bars
    assert all(float(bar.get("y", "0")) > floor for bar in bars)  # below the axis: no accuracy is claimed


def test_strips_count_every_architecture_once() -> None:
    data = report_examples.full()
    titles = [bar.findtext("title") or "" for bar in marks(boundary_plot(data, 1000, 560, "clip"), "pruned")]
    counted = sum(int(title.split(" ")[0].replace(numbers.NARROW_SPACE, "")) for title in titles)
    assert counted == data.pruned


@pytest.mark.parametrize(("width", "height"), [(372, 500), (1080, 560)])
def test_points_are_inside_the_image(width: float, height: float) -> None:
    for item in boundary_plot(report_examples.full(), width, height, "clip").iter("circle"):
        assert 40 <= float(item.get("cx", "-1")) <= width
        assert 0 <= float(item.get("cy", "-1")) <= height


def test_labels_cover_neither_marks_nor_each_other() -> None:
    placer = LabelPlacer((0, 0, 200, 100))
    placer.block(100, 50, 6)
    placer.block_line(0, 30, 200, 30)
    spots = [placer.place(100, 50, "12") for _ in range(4)]
    known = [spot for spot in spots if spot is not None]
    assert len(set(known)) == len(known) >= 2
    assert LabelPlacer((0, 0, 5, 5)).place(2, 2, "a long label") is None


def test_agreement_needs_a_measurement() -> None:
    data = report_examples.full()
    assert agreement_plot([replace(item, measured_ms=None) for item in data.winners], 400, "clip") is None
    drawing = agreement_plot([replace(data.winners[0], predicted_ms=1.0, measured_ms=1.0)], 400, "clip")
    assert drawing is not None
    (mark,) = marks(drawing, "winner")
    (line,) = [item for item in drawing.iter() if item.get("class") == "identity"][1:]  # the first is in the legend
    x1, x2, y1, y2 = (float(line.get(name, "nan")) for name in ("x1", "x2", "y1", "y2"))
    share = (float(mark.get("cx", "nan")) - x1) / (x2 - x1)
    assert float(mark.get("cy", "nan")) == pytest.approx(y1 + share * (y2 - y1), abs=0.1)  # on the identity


def test_every_block_is_in_a_heat_map_or_listed() -> None:
    blocks = report_examples.blocks()
    found, others = panels(blocks)
    assert sum(len(panel.blocks) for panel in found) + len(others) == len(blocks)
    assert {block.kind for block in others} == {"stem", "head"}
    assert [panel.title for panel in found][:2] == [
        "stage 3, first block: basic, map 32×32 → 16×16",
        "stage 3, later blocks: basic, map 16×16",
    ]
    doubled = [blocks[1], blocks[1]]
    assert len(panels(doubled)[1]) == 1  # a cell holds one block; the other is listed, not lost


def test_colours_darken_with_latency() -> None:
    scale = ColourScale(0.01, 1.0)
    shades = [int(scale.colour(value)[0][1:3], 16) for value in (0.01, 0.03, 0.1, 0.3, 1.0)]
    assert shades == sorted(shades, reverse=True)
    assert ColourScale(0.5, 0.5).colour(0.5)  # one block only
    assert colour_scale([block for block in report_examples.blocks() if block.hot_ms is None]) is None


def test_hypervolume_only_grows_and_ends_at_its_whole() -> None:
    data = report_examples.full()
    areas = hypervolumes(data.evaluated, 2.5, 0.9)
    assert areas == sorted(areas)
    assert hypervolumes(data.evaluated[:1], 2.5, 0.0)[0] == pytest.approx(
        (2.5 - data.evaluated[0].predicted_ms) * data.evaluated[0].accuracy
    )
    assert hypervolume_plot([], 400, 300) is None
    assert hypervolume_plot([0.0, 0.0], 400, 300) is None


def test_alive_plot_needs_counts() -> None:
    data = report_examples.full()
    assert alive_plot([replace(item, alive=None) for item in data.evaluated], 1980, 400, 300) is None
    assert alive_plot(data.evaluated, 1980, 400, 300) is not None


def test_learning_curves_share_axes_that_show_every_end() -> None:
    data = report_examples.full()
    axes = curve_axes(data.evaluated)
    assert axes is not None
    assert all(axes.accuracies[0] <= 100 * item.curve[-1].accuracy <= axes.accuracies[1] for item in data.evaluated)
    assert curve_axes([replace(item, curve=()) for item in data.evaluated]) is None


def test_the_image_alone_is_a_whole_document() -> None:
    text = boundary_svg(replace(report_examples.full(), device=report_examples.HOSTILE))
    root = ElementTree.fromstring(text.encode())  # noqa: S314
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in text  # few viewers know variables
    assert "df-mini on" in "".join(root.itertext())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0312, "0.0312"),
        (1.2345, "1.23"),
        (9.996, "10.0"),
        (123.4, "123"),
        (12345.6, "12\u202f346"),
        (0, "0"),
        (None, "–"),
    ],
)
def test_numbers_have_three_digits(value: float | None, shown: str) -> None:
    assert numbers.number(value) == shown


def test_units_and_half_widths() -> None:
    assert numbers.ms_with_half_width(1.2345, 0.0123) == "1.234 ± 0.012\u202fms"
    assert numbers.ms_with_half_width(1.2345, None) == "1.23\u202fms"
    assert numbers.signed_percent(-0.0321) == "−3.2\u202f%"
    assert numbers.bytes_text(33 * 2**20) == "33\u202fMiB"
    assert numbers.duration(200) == "3\u202fmin 20\u202fs"
    assert numbers.scaled(746_729_472) == "747\u202fM"


def reference_names(drawing: ElementTree.Element) -> list[ElementTree.Element]:
    return [item for item in drawing.iter() if item.get("class") == "reference-label"]


def test_references_have_a_latency_and_no_accuracy() -> None:
    data = report_examples.full()
    root = boundary_plot(data, 1000, 560, "clip")
    lines = [item for item in marks(root, "reference") if item.tag == "line"]
    assert len(lines) == 2  # the third has no prediction: it is in the table only
    for line, name in zip(lines, ("PL1A-Seg", "Near-Seg"), strict=True):
        assert line.get("x1") == line.get("x2")
        assert (line.findtext("title") or "").startswith(name)
    names = reference_names(root)
    assert [item.text for item in names] == ["PL1A-Seg", "Near-Seg"]
    assert len({item.get("transform") for item in names}) == 2


def test_names_of_near_references_do_not_overlap() -> None:
    points = tuple(ReferencePoint(f"Network-{number}", "df/8", 1.0 + number / 1000) for number in range(4))
    root = boundary_plot(replace(report_examples.full(), references=points), 1000, 560, "clip")
    places = []
    for item in reference_names(root):
        x, y = (item.get("transform") or "").removeprefix("translate(").partition(")")[0].split(" ")
        places.append((float(x), float(y), float(y) + text_width(item.text or "")))
    for one, other in itertools.pairwise(places):
        assert other[1] > one[2] or abs(one[0] - other[0]) > 11


def test_a_far_reference_is_on_the_axis() -> None:
    points = (ReferencePoint("Slow", "df/8", 300.0),)
    root = boundary_plot(replace(report_examples.full(), references=points), 1000, 560, "clip")
    (line,) = marks(root, "reference")
    assert 66 < float(line.get("x1") or 0) < 1000 - 16
    assert "log scale" in "".join(text.text or "" for text in root.iter("text"))
