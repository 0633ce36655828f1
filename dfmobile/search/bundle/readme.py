"""The README of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dfmobile.search.bundle.latencies import BundleLatency

_RUNS = {
    "tflite": "LiteRT (TensorFlow Lite): inputs and outputs `[N, H, W, C]`, signature `serving_default`",
    "onnx": "ONNX Runtime, TensorRT: inputs and outputs `[N, C, H, W]`",
    "ncnn": "ncnn: `FILE.param` with `FILE.bin`; blob names are in `FILE.json`",
}
_PRECISIONS = {
    ("tflite", "fp16"): "weights stored as float16, float32 arithmetic",
    ("tflite", "int8"): "static int8, input and output too: value = (integer - zero point) x scale, as the file says",
    ("onnx", "fp16"): "float16 arithmetic, input and output float32",
    ("onnx", "int8"): "static int8 as QDQ, input and output float32",
    ("ncnn", "fp16"): "weights stored as float16",
}


def readme(
    manifest: Mapping[str, Any], latencies: Sequence[BundleLatency], absent: Sequence[str], *, segmentation: bool
) -> str:
    """Return README.md: what is in the bundle, how to run it, how fast it is and how that is known.

    Args:
        manifest: of the bundle.
        latencies: of its models.
        absent: what is not there, and why; one sentence each.
        segmentation: whether the network labels pixels.
    """
    shape = "x".join(map(str, manifest["input"]))
    output = "x".join(map(str, manifest["output"]))
    pixels = manifest["preprocessing"]
    lines = [
        f"# {manifest['name']} for {manifest['device']}",
        "",
        f"Network `{manifest['encoding']}`; input `{shape}`, output `{output}` (N, C, H, W): scores of classes.",
        f"Made by {manifest['tool']}; weights: `{manifest['weights']}`.",
        "",
        "## Models",
        "",
        "| file | precision | bytes | class of the highest score equal to the reference's | compared on |",
        "|---|---|---|---|---|",
    ]
    for item in manifest["models"]:
        note = _PRECISIONS.get((item["format"], item["precision"]), "float32")
        lines.append(
            f"| `{item['path']}` | {item['precision']}: {note} | {item['bytes']:,} | "
            f"{100 * item['argmax_agreement']:.2f} % | {item['checked_on']} |"
        )
    lines += ["", *(f"- {_RUNS[name]}" for name in dict.fromkeys(item["format"] for item in manifest["models"]))]
    lines += [
        "",
        "## How to run it",
        "",
        "1. Decode the image upright, 8 bits a channel.",
        f"2. Resize it to {pixels['width']}x{pixels['height']}: {pixels['resize']}.",
        f"3. Channels in the order {pixels['channels']}; each value is {pixels['formula']}, with the means "
        f"{pixels['mean']} and scales {pixels['scale']} of `preprocessing.json`.",
        "4. Run. The class of "
        + ("a pixel" if segmentation else "the image")
        + " is the channel with the highest score; its name is that line of `labels.txt`, counted from 0.",
    ]
    if segmentation:
        lines.append("5. To paint: `palette.json` has a colour (RGB) a class; `palette.png` shows them.")
    first = manifest["models"][0]["path"]
    lines += [
        "",
        "`example.py` does this in Python without dfmobile:",
        "",
        "```sh",
        "python -m pip install numpy pillow ai-edge-litert   # .onnx: onnxruntime instead",
        f"python example.py {first} IMAGE" + (" labels.png" if segmentation else ""),
        "```",
        "",
        "## Latency",
        "",
    ]
    if latencies:
        lines += ["| model | ms | 95 % | how known | runtime | threads | device |", "|---|---|---|---|---|---|---|"]
        for latency in latencies:
            low_high = "-" if latency.interval_ms is None else "{:.3f} to {:.3f}".format(*latency.interval_ms)
            note = f" ({_cell(latency.note)})" if latency.note else ""
            lines.append(
                f"| `{latency.model}` | {latency.latency_ms:.3f} | {low_high} | **{latency.kind}**{note} | "
                f"{_cell(latency.runtime)}, {latency.precision} | {latency.threads} | {_cell(latency.device)} |"
            )
        lines.append("")
    lines += [f"- Not here: {text}" for text in absent]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
