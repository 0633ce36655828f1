"""Report data made by hand for the tests: numbers are invented and stand for no device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dfmobile.report.data import (
    CurvePoint,
    EvaluatedArchitecture,
    LatencyStrip,
    ReferencePoint,
    ReportData,
    TableBlock,
    Winner,
)

HOSTILE = "</style><script>alert('x')</script><img src=http://example.org/x onerror=alert(1)>&\u202e\x00\"'"
PREFIX = "df,stem=8s1,classes=10,channels=1"


def evaluations(count: int = 24, seed: int = 1) -> list[EvaluatedArchitecture]:
    generator = np.random.default_rng(seed)
    found = []
    for number in range(1, count + 1):
        latency = float(np.exp(generator.uniform(np.log(0.12), np.log(2.4))))
        accuracy = float(np.clip(0.985 - 0.06 / (1 + 4 * latency) - generator.uniform(0, 0.03), 0, 1))
        curve = tuple(CurvePoint(epoch, accuracy * (1 - 0.7 * 0.45**epoch)) for epoch in range(1, 7))
        text = f"{PREFIX}/{8 * (1 + number % 3)}/24,{24 + 8 * (number % 3)}/{40 + 8 * (number % 4)},64"
        found.append(
            EvaluatedArchitecture(
                number, f"{text}-{number}", latency, accuracy, 8.0 + number, 100 - 2 * number, 2000 - 60 * number,
                curve=curve, macs=400_000 + 31_000 * number, params=12_345 * number,
            )
        )  # fmt: skip
    best = -1.0
    optimal = set()
    for item in sorted(found, key=lambda one: one.predicted_ms):
        if item.accuracy > best:
            best = item.accuracy
            optimal.add(item.number)
    return [replace(item, on_boundary=item.number in optimal) for item in found]


def winners(evaluated: list[EvaluatedArchitecture]) -> list[Winner]:
    chosen = sorted((item for item in evaluated if item.on_boundary), key=lambda one: one.predicted_ms)
    return [
        Winner(
            item.encoding, item.predicted_ms, item.accuracy, (item.predicted_ms * 0.97, item.predicted_ms * 1.03),
            item.predicted_ms * (1.0 + 0.03 * (-1) ** index + 0.01 * index), 0.01 * item.predicted_ms,
            (f"models/{index:02d}.tflite", f"models/{index:02d}.onnx"), "trained",
        )
        for index, item in enumerate(chosen)
    ]  # fmt: skip


def blocks() -> list[TableBlock]:
    widths = (8, 16, 24, 40, 64)
    found = [TableBlock("stem", "stem 1x32x32 -> 8x32x32 (0a1b2c3d4e5f)", None, False, 1, 8, (32, 32), (32, 32), 0.02,
                        0.03, 0.001, 30, 73_728)]  # fmt: skip
    for index, stage in enumerate((3, 4, 5)):
        extent = 32 >> index
        for first in (True, False):
            before_map = (extent, extent) if first else (extent // 2, extent // 2)
            for low in widths if stage > 3 or not first else (8,):
                for high in widths:
                    if high >= low:
                        hot = 0.004 + low * high * before_map[0] ** 2 / 6e6
                        found.append(
                            TableBlock(
                                "basic", f"basic {low}x{extent} -> {high}x{extent // 2}", stage, first, low, high,
                                before_map, (extent // 2, extent // 2), hot, 1.4 * hot, 0.02 * hot, 30, 9 * low * high,
                            )
                        )  # fmt: skip
    skipped = TableBlock(
        "basic", "basic too slow", 5, False, 64, 128, (4, 4), (4, 4), None, None, None, 0, 1, "skipped: over 0.1 ms"
    )
    heads = [
        TableBlock(
            "head",
            f"head {w}x4x4 -> 10",
            None,
            False,
            w,
            10,
            (4, 4),
            (1, 1),
            0.001 + w / 1e5,
            0.002,
            0.0001,
            30,
            10 * w,
        )
        for w in widths
    ]
    return [*found, skipped, *heads]


def strip() -> LatencyStrip:
    edges = np.geomspace(0.1, 2.6, 41)
    centre = np.arange(40)
    pruned = (260 * np.exp(-(((centre - 24) / 8) ** 2))).astype(int)
    alive = (30 * np.exp(-(((centre - 30) / 5) ** 2))).astype(int)
    return LatencyStrip("log", tuple(edges.tolist()), tuple(pruned.tolist()), tuple(alive.tolist()))


def full() -> ReportData:
    evaluated = evaluations()
    shown = strip()
    return ReportData(
        title="Search of df-mini on a made-up device",
        summary="24 architectures of df-mini were trained under Partial Order Pruning.",
        accuracy_label="validation accuracy, one training each",
        accuracy_is_trained=True,
        space="df-mini",
        space_size=1980,
        candidates=1980,
        input_size=(32, 32),
        device="Made-up CPU, 2 cores, debian 12",
        evaluated=evaluated,
        winners=winners(evaluated),
        evaluator_facts=(("data", "mnist-5k"), ("epochs", "6")),
        pruned=sum(shown.pruned),
        alive=sum(shown.alive),
        strip=shown,
        worst_ms=2.5,
        blocks=blocks(),
        device_facts=(("processor", "Made-up CPU"), ("caches", "L1 data 32 KiB; L2 unified 1 MiB; L3 unified 32 MiB")),
        conditions=(("load (1 min)", "0.20 to 1.10"),),
        provenance=(("runtime", "LiteRT 2.1.4"), ("library SHA-256", "0123456789abcdef" * 4)),
        commands=(
            "dfmobile lut build --space df-mini --device local -o RUN/table.sqlite",
            "dfmobile search --space df-mini",
        ),
        clock="CPU time of the measuring thread: time in which the thread was not running does not count.",
        notes=("The machine is shared.",),
        references=(
            ReferencePoint("PL1A-Seg", "shuffle/4x48", 1.5, (1.4, 1.6), "mIoU val 68.7 %"),
            ReferencePoint("Near-Seg", "shuffle/4x24", 1.51),
            ReferencePoint("DF1-Seg", "df/64", None, None, "", "the table lacks stem"),
        ),
    )
