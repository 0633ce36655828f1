"""Run a model of this folder on an image. Needs numpy, Pillow, and ai-edge-litert (.tflite) or onnxruntime (.onnx).

    python example.py MODEL IMAGE [OUT.png]

Stands alone: nothing of dfmobile is imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent


def network_input(image: Image.Image) -> Any:
    """Return float32 [1, C, H, W], as preprocessing.json says."""
    rule = json.loads((HERE / "preprocessing.json").read_text(encoding="utf-8"))
    grey = rule["channels"] == "L"
    image = image.convert("L" if grey else "RGB").resize((rule["width"], rule["height"]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32)
    pixels = pixels[None] if grey else pixels.transpose(2, 0, 1)
    if rule["channels"] == "BGR":
        pixels = pixels[::-1]
    mean, scale = (np.array(rule[name], np.float32)[:, None, None] for name in ("mean", "scale"))
    return np.ascontiguousarray((pixels - mean) * scale, np.float32)[None]


def run_tflite(path: Path, values: Any) -> Any:
    """Return the scores, float32 [1, C, H, W] or [1, C]; .tflite files have channels last."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    values = values.transpose(0, 2, 3, 1)
    scale, zero = given["quantization"]
    if scale:  # int8: integers by scale and zero point
        values = np.clip(np.rint(values / scale) + zero, -128, 127)
    interpreter.set_tensor(given["index"], np.ascontiguousarray(values.astype(given["dtype"])))
    interpreter.invoke()
    scores = interpreter.get_tensor(made["index"])
    scale, zero = made["quantization"]
    if scale:
        scores = (scores.astype(np.float32) - zero) * scale
    return scores.transpose(0, 3, 1, 2) if scores.ndim == 4 else scores


def run_onnx(path: Path, values: Any) -> Any:
    """Return the scores, float32 [1, C, H, W] or [1, C]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: values})[0]


def main() -> None:
    """Print the classes of an image; of a segmentation network write the label map."""
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    model, image = Path(sys.argv[1]), Image.open(sys.argv[2])
    names = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
    run = run_onnx if model.suffix == ".onnx" else run_tflite
    scores = run(model, network_input(image))[0]
    classes = scores.argmax(axis=0)
    if scores.ndim == 3:
        shares = np.bincount(classes.reshape(-1), minlength=len(names)) / classes.size
        order = [number for number in shares.argsort()[::-1] if shares[number] > 0]
        print("\n".join(f"{100 * shares[number]:6.2f} %  {names[number]}" for number in order))
        if len(sys.argv) == 4:
            Image.fromarray(classes.astype(np.uint8)).save(sys.argv[3])
    else:
        print(names[int(classes)])


if __name__ == "__main__":
    main()
