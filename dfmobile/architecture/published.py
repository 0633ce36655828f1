"""Numbers that the authors of the zoo's networks published. Not measured by dfmobile.

Source: the tables of the Partial Order Pruning repository (Li et al., CVPR 2019) and, for PL1A-Seg, its phone demo.
Two rows may be compared only where platform, resolution and batch are the same: accuracies of segmentation networks
are at 2048x1024, their TX2 and Snapdragon 845 speeds at 640x384, their desktop GPU speeds at 1024x1024 or 2048x1024.
"""

from __future__ import annotations

from dataclasses import dataclass

_TENSORRT_GTX = "GTX 1080 Ti, TensorRT 3.0.4"
_TENSORRT_TX2 = "Jetson TX2, TensorRT 3.0.4"
_CAFFE_TITAN = "Titan X, Caffe"


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        metric: ``top-1``, ``mIoU val``, ``mIoU test``, ``latency``, ``FPS``, ``GPU memory`` or ``FLOPs (MACs)``.
        value: as published.
        unit: its unit; ``not stated`` where the source does not say.
        platform: device and runtime; empty for what depends on none.
        input: width x height, pixels.
        batch: images at once.
    """

    metric: str
    value: float
    unit: str
    platform: str
    input: str
    batch: int = 1


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "DF1": (
        Published("top-1", 69.78, "%", "", "224x224"),
        Published("latency", 2.5, "ms", "Jetson TX2 (runtime not stated)", "224x224"),
        Published("GPU memory", 1863.0, "not stated", "BVLC Caffe", "224x224", batch=50),
        Published("GPU memory", 1042.0, "not stated", "BVLC Caffe", "1024x1024"),
        Published("FLOPs (MACs)", 746.0, "M", "", "224x224"),
    ),
    "DF2": (
        Published("top-1", 73.92, "%", "", "224x224"),
        Published("latency", 5.0, "ms", "Jetson TX2 (runtime not stated)", "224x224"),
        Published("GPU memory", 2867.0, "not stated", "BVLC Caffe", "224x224", batch=50),
        Published("GPU memory", 1567.0, "not stated", "BVLC Caffe", "1024x1024"),
        Published("FLOPs (MACs)", 1.77, "G", "", "224x224"),
    ),
    "DF2A": (
        Published("top-1", 76.0, "%", "", "224x224"),
        Published("latency", 6.5, "ms", "Jetson TX2 (runtime not stated)", "224x224"),
        Published("GPU memory", 4844.0, "not stated", "BVLC Caffe", "224x224", batch=50),
        Published("GPU memory", 2356.0, "not stated", "BVLC Caffe", "1024x1024"),
        Published("FLOPs (MACs)", 1.97, "G", "", "224x224"),
    ),
    "ResNet-18": (
        Published("top-1", 69.0, "%", "", "224x224"),
        Published("latency", 4.4, "ms", "Jetson TX2 (runtime not stated)", "224x224"),
        Published("GPU memory", 2784.0, "not stated", "BVLC Caffe", "224x224", batch=50),
        Published("GPU memory", 1397.0, "not stated", "BVLC Caffe", "1024x1024"),
        Published("FLOPs (MACs)", 1.8, "G", "", "224x224"),
    ),
    "ResNet-50": (
        Published("top-1", 75.3, "%", "", "224x224"),
        Published("latency", 10.6, "ms", "Jetson TX2 (runtime not stated)", "224x224"),
        Published("GPU memory", 9914.0, "not stated", "BVLC Caffe", "224x224", batch=50),
        Published("GPU memory", 4488.0, "not stated", "BVLC Caffe", "1024x1024"),
        Published("FLOPs (MACs)", 3.8, "G", "", "224x224"),
    ),
    "ResNet-101": (
        Published("top-1", 76.4, "%", "", "224x224"),
        Published("GPU memory", 14900.0, "not stated", "BVLC Caffe", "224x224", batch=50),
        Published("GPU memory", 6813.0, "not stated", "BVLC Caffe", "1024x1024"),
        Published("FLOPs (MACs)", 7.6, "G", "", "224x224"),
    ),
    "DFlite-Seg-d8": (
        Published("mIoU val", 71.7, "%", "", "2048x1024"),
        Published("FPS", 157.4, "frames/s", _TENSORRT_GTX, "2048x1024"),
        Published("FPS", 263.4, "frames/s", _TENSORRT_GTX, "1024x1024"),
        Published("FPS", 45.7, "frames/s", _CAFFE_TITAN, "2048x1024"),
    ),
    "DF1-Seg-d8": (
        Published("mIoU val", 72.4, "%", "", "2048x1024"),
        Published("mIoU test", 71.4, "%", "", "2048x1024"),
        Published("FPS", 92.7, "frames/s", _TENSORRT_TX2, "640x384"),
        Published("FPS", 136.9, "frames/s", _TENSORRT_GTX, "2048x1024"),
        Published("FPS", 232.6, "frames/s", _TENSORRT_GTX, "1024x1024"),
        Published("FPS", 40.2, "frames/s", _CAFFE_TITAN, "2048x1024"),
    ),
    "DFlite-Seg": (
        Published("mIoU val", 73.4, "%", "", "2048x1024"),
        Published("FPS", 118.4, "frames/s", _TENSORRT_GTX, "2048x1024"),
        Published("FPS", 202.5, "frames/s", _TENSORRT_GTX, "1024x1024"),
        Published("FPS", 33.8, "frames/s", _CAFFE_TITAN, "2048x1024"),
    ),
    "DF1-Seg": (
        Published("mIoU val", 74.1, "%", "", "2048x1024"),
        Published("mIoU test", 73.0, "%", "", "2048x1024"),
        Published("FPS", 71.4, "frames/s", _TENSORRT_TX2, "640x384"),
        Published("FPS", 106.1, "frames/s", _TENSORRT_GTX, "2048x1024"),
        Published("FPS", 182.1, "frames/s", _TENSORRT_GTX, "1024x1024"),
        Published("FPS", 30.7, "frames/s", _CAFFE_TITAN, "2048x1024"),
    ),
    "DF2-Seg1": (
        Published("mIoU val", 75.9, "%", "", "2048x1024"),
        Published("mIoU test", 74.8, "%", "", "2048x1024"),
        Published("FPS", 44.9, "frames/s", _TENSORRT_TX2, "640x384"),
        Published("FPS", 67.2, "frames/s", _TENSORRT_GTX, "2048x1024"),
        Published("FPS", 20.5, "frames/s", _CAFFE_TITAN, "2048x1024"),
    ),
    "DF2-Seg2": (
        Published("mIoU val", 76.9, "%", "", "2048x1024"),
        Published("mIoU test", 75.3, "%", "", "2048x1024"),
        Published("FPS", 39.9, "frames/s", _TENSORRT_TX2, "640x384"),
        Published("FPS", 56.3, "frames/s", _TENSORRT_GTX, "2048x1024"),
        Published("FPS", 17.7, "frames/s", _CAFFE_TITAN, "2048x1024"),
    ),
    "PL1A-Seg": (
        Published("mIoU val", 68.7, "%", "", "2048x1024"),
        Published("mIoU test", 69.1, "%", "", "2048x1024"),
        Published("FPS", 52.0, "frames/s", "Snapdragon 845 (deployed with ncnn)", "640x384"),
    ),
}
