"""The page: complete, well-formed, self-contained, and deaf to hostile text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
import report_examples

from dfmobile.report.data import ReportData, Winner, agreement
from dfmobile.report.html import render, template_text

VOID = {"meta", "br", "wbr", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """Reads a page strictly: every element that opens must close in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def drawings(text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)]  # noqa: S314


def hostile(value: Any) -> Any:
    """Put a hostile text into every text of some data, keeping its numbers."""
    if isinstance(value, str):
        return value if value in ("linear", "log") else report_examples.HOSTILE + value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{item.name: hostile(getattr(value, item.name)) for item in fields(value)})
    if isinstance(value, (list, tuple)):
        return type(value)(hostile(item) for item in value)
    return value


def test_the_page_has_every_part() -> None:
    page = Page(render(report_examples.full()))
    headings = {"winners", "boundary", "agreement", "progress", "curves", "table", "device", "provenance", "commands"}
    assert headings | {"honest"} == {item["id"] for item in page.all("h2")}
    for text in ("dfmobile search --space df-mini", "LiteRT 2.1.4", "Made-up CPU", "32×32", "not a random sample"):
        assert text in page.text


def test_drawings_are_well_formed_and_named() -> None:
    text = render(report_examples.full())
    found = drawings(text)
    assert len(found) > 30  # plots, heat maps and one learning curve an evaluation
    for drawing in found:
        assert drawing.get("role") == "img"
        assert drawing.get("aria-label")
    page = Page(text)
    assert len(page.all("figure")) == len(page.all("figcaption"))
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def assert_self_contained(page: Page) -> None:
    assert not [tag for tag, _ in page.elements if tag in ("script", "img", "link", "iframe", "object", "base", "form")]
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "style", "href")]


def test_the_page_loads_nothing_and_allows_its_own_style_only() -> None:
    text = render(report_examples.full())
    assert_self_contained(Page(text))
    style = re.search(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in text


def test_hostile_text_stays_text() -> None:
    text = render(hostile(report_examples.full()))
    page = Page(text)
    assert_self_contained(page)
    assert "<script>alert('x')</script>" in page.text  # shown, not run
    assert len(page.all("style")) == 1
    for forbidden in ("\x00", "\u202e"):
        assert forbidden not in text
    assert len(drawings(text)) > 30


def test_lone_surrogates_can_be_written() -> None:
    render(replace(report_examples.full(), title="broken \udcff name")).encode()


def test_simulated_accuracies_are_called_so_wherever_they_are_shown() -> None:
    label = "analytic (simulated, not trained)"
    text = render(replace(report_examples.full(), accuracy_is_trained=False, accuracy_label=label))
    page = Page(text)
    assert "The accuracies on this page are not from trainings" in page.text
    assert page.text.count(label) >= 4  # header, winners, plot, what the numbers are
    assert any(label in (drawing.get("aria-label") or "") for drawing in drawings(text))
    assert "were trained" not in page.text.replace(report_examples.full().summary, "").replace(
        "if they were trained", ""
    )


def empty() -> ReportData:
    return replace(
        report_examples.full(), evaluated=(), winners=(), strip=None, worst_ms=None, pruned=0, alive=1980, blocks=(),
        commands=(), conditions=(), notes=(),
    )  # fmt: skip


def test_a_campaign_without_results_says_so() -> None:
    page = Page(render(empty()))
    assert "no architecture has been evaluated yet" in page.text
    assert "There are none" in page.text


def one(latencies: int = 1) -> ReportData:
    data = report_examples.full()
    evaluated = [
        replace(item, predicted_ms=0.5, accuracy=0.9, on_boundary=True, curve=()) for item in data.evaluated[:latencies]
    ]
    winners = [Winner(item.encoding, 0.5, 0.9) for item in evaluated]
    return replace(data, evaluated=evaluated, winners=winners, strip=None, worst_ms=0.5)


@pytest.mark.parametrize("data", [one(), one(5), replace(one(3), strip=report_examples.strip())])
def test_one_point_and_equal_points_are_drawn(data: ReportData) -> None:
    text = render(data)
    Page(text)
    assert not re.search(r"\b(nan|inf)\b", text)
    marks = [
        item for item in drawings(text)[0].iter() if item.get("class") == "winner" and item.find("{*}title") is not None
    ]
    assert len(marks) == len(data.winners)


def test_winners_that_were_not_measured_are_marked() -> None:
    data = report_examples.full()
    some = [
        replace(item, measured_ms=None, half_width_ms=None) if index < 2 else item
        for index, item in enumerate(data.winners)
    ]
    page = Page(render(replace(data, winners=some, not_measured_reason="2 of 7 winners: the phone is gone.")))
    assert page.text.count("not re-measured") >= 3  # in two rows, and in what the numbers are
    assert "the phone is gone" in page.text
    none = [replace(item, measured_ms=None, half_width_ms=None) for item in data.winners]
    page = Page(render(replace(data, winners=none)))
    assert "No winner has been re-measured end to end" in page.text


def test_equal_data_give_an_equal_page() -> None:
    assert render(report_examples.full()) == render(report_examples.full())


def test_agreement_by_hand() -> None:
    found = agreement(
        [Winner("a", 1.1, 0.9, measured_ms=1.0), Winner("b", 0.98, 0.9, measured_ms=1.0), Winner("c", 1, 0.9)]
    )
    assert found is not None
    assert (found.n, found.within_5, found.within_10) == (2, 0.5, 0.5)  # 1.1 is a rounding beyond 10 %
    assert found.mape == pytest.approx(0.06)
    assert found.bias == pytest.approx(0.04)
    assert found.max_error == pytest.approx(0.10)
    assert agreement([Winner("c", 1, 0.9)]) is None


def test_every_class_that_is_used_has_a_style() -> None:
    style = template_text("chart.css") + template_text("page.css")
    page = Page(render(report_examples.full()))
    used = {name for _, attributes in page.elements for name in (attributes.get("class") or "").split()}
    assert {name for name in used if f".{name}" not in style} <= {"small", "heat", "legend"}


def test_how_many_candidates_there_are_is_said_where_not_all_of_the_space_are() -> None:
    data = replace(report_examples.full(), latency_range=(None, None), candidates=20)
    assert "20 of them are candidates: the evaluator can evaluate no others" in render(data)
    assert "of them are candidates" not in render(replace(data, candidates=data.space_size))


def test_references_are_in_a_table_with_what_is_missing() -> None:
    page = Page(render(report_examples.full()))
    for text in ("PL1A-Seg", "mIoU val 68.7 %", "none: the table lacks stem", "they have no accuracy here"):
        assert text in page.text
    without = Page(render(replace(report_examples.full(), references=())))
    assert "Other networks at the same input" not in without.text


def test_a_recorded_table_is_said_to_be_one() -> None:
    page = Page(render(replace(report_examples.full(), recorded=True, blocks=(), accuracy_is_trained=False)))
    for text in ("The table is recorded:", "recorded by somebody else", "of layers and not of blocks"):
        assert text in page.text
    assert "The table is recorded" not in Page(render(report_examples.full())).text
