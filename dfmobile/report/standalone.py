"""The boundary plot as an image file of its own, for a README or a slide."""

from __future__ import annotations

import re
from pathlib import Path

from dfmobile.files import atomic_write
from dfmobile.report.boundary_plot import boundary_plot
from dfmobile.report.data import ReportData
from dfmobile.report.html import template_text
from dfmobile.report.svg import Element, serialise


def write_boundary_svg(run_folder: Path, output: Path) -> Path:
    """Write the boundary plot of a search as an SVG file.

    Args:
        run_folder: what ``dfmobile search -o`` wrote.
        output: the image.

    Returns:
        The image's path.

    Raises:
        InputError: if the folder has no campaign.
        FileFormatError: if the campaign or the table is damaged.
        StorageError: if the image cannot be written.
    """
    from dfmobile.report.collect import collect

    atomic_write(output, boundary_svg(collect(run_folder)))
    return output


def boundary_svg(data: ReportData, width: float = 920, height: float = 540) -> str:
    """Return the boundary plot as an SVG document; it says itself what its accuracies are and which device it is.

    Args:
        data: the report.
        width: px.
        height: px.
    """
    root = boundary_plot(
        data, width, height, "clip-boundary", [f"{data.space} on {data.device}", f"accuracy: {data.accuracy_label}"]
    )
    return standalone_svg(root)


def standalone_svg(root: Element) -> str:
    """Return an image as an SVG document of its own: background and colours included."""
    background = Element("rect", {"class": "background", "width": "100%", "height": "100%"})
    root.insert(0, background)
    style = Element("style")
    style.text = _literal_colours()
    root.insert(0, style)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + serialise(root) + "\n"


def _literal_colours() -> str:
    """Return the charts' style sheet with colours in place of variables, which few image viewers know."""
    chart = template_text("chart.css")
    light, _, dark = template_text("palette.css").partition("@media")
    variables = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", light))
    dark_variables = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", dark))

    def resolved(values: dict[str, str]) -> str:
        return re.sub(r"var\(--([a-z0-9-]+)\)", lambda found: values[found[1]], chart)

    return f"{resolved(variables)}@media (prefers-color-scheme: dark) {{\n{resolved(dark_variables)}}}\n"
