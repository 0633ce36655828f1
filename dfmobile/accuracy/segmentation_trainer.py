"""Train one segmentation network, an epoch at a time, resumable: on CPUs to the same bits.

Every random choice is a function of (seed, epoch), whatever the number of processes. Imports torch: reach it through
``dfmobile.accuracy.segmentation``.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from dfmobile.accuracy.auxiliary import with_auxiliary_head, without_auxiliary_head
from dfmobile.accuracy.checkpoint import Checkpoint
from dfmobile.accuracy.initialise import initial_weights
from dfmobile.accuracy.metrics import ConfusionMatrix
from dfmobile.accuracy.processes import Processes
from dfmobile.accuracy.resumable import ResumableTrainer, sgd
from dfmobile.accuracy.segmentation_loss import SegmentationLoss
from dfmobile.accuracy.segmentation_options import SegmentationOptions
from dfmobile.accuracy.teacher import Teacher
from dfmobile.architecture import Architecture, build
from dfmobile.data.augment_labels import CropAugmentation
from dfmobile.data.dataset import UInt8Array
from dfmobile.data.segmentation import SegmentationData
from dfmobile.errors import EvaluationError, FileFormatError, InputError
from dfmobile.export.torch_module import load_weights, torch_module
from dfmobile.graph import Weights

VALIDATION_PIXELS = 2**20
"""At most so many pixels (and at least one image) are validated at once."""

_AHEAD = 3
Batch = tuple[UInt8Array, UInt8Array]


def poly_rate(step: int, steps: int, options: SegmentationOptions) -> float:
    """Return the rate of a step: a linear rise over the warm-up, then ``(1 - share) ^ power`` down to 0.

    Source of the poly schedule: Chen et al., DeepLab, TPAMI 2018.

    Args:
        step: from 0 to ``steps - 1``.
        steps: in the whole training.
        options: learning rate, warm-up and power.
    """
    rise = options.warm_up * steps
    if step + 1 < rise:
        return options.learning_rate * (step + 1) / rise
    share = (step + 1 - rise) / max(1.0, steps - rise + 1)
    return float(options.learning_rate * (1.0 - share) ** options.power)


class SegmentationTrainer(ResumableTrainer):
    """A training in progress.

    Args:
        architecture: what is trained.
        data: what it learns from.
        options: how.
        seed: of the starting weights, the order of the images and their augmentation.
        processes: that train together.

    Raises:
        InputError: if there are fewer training images than a batch has, or a batch has fewer than two images a process.
    """

    def __init__(
        self,
        architecture: Architecture,
        data: SegmentationData,
        options: SegmentationOptions,
        seed: int,
        processes: Processes,
    ) -> None:
        if len(data.train) < options.batch_size:
            raise InputError(
                f"{len(data.train)} training images are fewer than a batch of {options.batch_size}",
                hint="give a smaller batch_size",
            )
        if options.batch_size % processes.count or options.batch_size // processes.count < 2:
            raise InputError(
                f"a batch of {options.batch_size} images cannot be shared by {processes.count} processes",
                hint="batch_size: a multiple of the processes, at least two images each",
            )
        crop = options.crop_size or data.train.size
        self._network = build(architecture, *crop)
        graph = (
            with_auxiliary_head(self._network, options.auxiliary_stage) if options.auxiliary else self._network.graph
        )
        module = torch_module(graph, initial_weights(graph, seed))
        # Channels last: nearly twice as fast as the default layout for these networks on CPUs.
        module = processes.normalised_together(module.to(processes.device, memory_format=torch.channels_last))
        optimiser = sgd(module, options.learning_rate, options.momentum, options.weight_decay)
        super().__init__(module, optimiser, options.epochs)
        self._forward = processes.wrap(module)
        # Pooling windows depend on the size: whole images need a graph of their own, with the same weights.
        self._whole = None
        if crop != data.validation.size:
            whole = torch_module(build(architecture, *data.validation.size).graph)
            self._whole = whole.to(processes.device, memory_format=torch.channels_last)
        self._data, self._options, self._seed, self._processes = data, options, seed, processes
        self._augmentation = CropAugmentation(crop, options.scales, options.flip)
        self._loss = SegmentationLoss(data, options, processes.device)
        self._mean = torch.from_numpy(data.mean * 255).view(-1, 1, 1).to(processes.device)
        self._factor = torch.from_numpy(1 / (data.std * 255)).view(-1, 1, 1).to(processes.device)
        self._steps_an_epoch = len(data.train) // options.batch_size
        self._teacher = self._open_teacher(crop)
        self._cast, self._scaler = _mixed_precision(options.mixed_precision, processes.device)
        self.confusion = ConfusionMatrix(len(data.train.class_names))

    def _open_teacher(self, crop: tuple[int, int]) -> Teacher | None:
        options = self._options
        if options.teacher is None or options.teacher_masks is not None:
            return None
        classes = len(self._data.train.class_names)
        return Teacher(Path(options.teacher).expanduser(), options.teacher_architecture, crop, classes)

    def weights(self) -> Weights:
        """Return copies of the network's weights, without the auxiliary head's."""
        return without_auxiliary_head(super().weights())

    def run_epoch(self) -> dict[str, Any]:
        """See base class."""
        start = time.monotonic()
        self._module.train()
        total = 0.0
        for step, (images, labels) in enumerate(self._batches()):
            loss = self._step(images, labels, self.epoch * self._steps_an_epoch + step)
            if not math.isfinite(loss):
                raise EvaluationError(
                    f"the training diverged in epoch {self.epoch + 1}: its loss is {loss}",
                    hint="give a lower learning_rate",
                )
            total += loss
        self.confusion = self.validate()
        if not self.confusion.counts.any():
            raise EvaluationError(
                "no validation image has a labelled pixel", hint="labels are trainIds; 255 is ignored"
            )
        self.epoch += 1
        point = {
            "epoch": self.epoch,
            "train_loss": total / self._steps_an_epoch,
            "validation_accuracy": self.confusion.miou,
            "validation_pixel_accuracy": self.confusion.pixel_accuracy,
            "validation_iou": self.confusion.describe(self._data.train.class_names)["iou"],
            "seconds": time.monotonic() - start,
        }
        self.curve.append(point)
        return point

    def _batches(self) -> Iterator[Batch]:
        """Yield the epoch's batches, this process's part of each; where reading is slow, some are read ahead."""
        generator = np.random.default_rng((self._seed, self.epoch))
        order = generator.permutation(len(self._data.train))
        size, rank, count = self._options.batch_size, self._processes.rank, self._processes.count
        # All is drawn for all processes: their number changes nothing.
        drawn = [self._augmentation.draw(size, generator) for _ in range(self._steps_an_epoch)]

        def load(step: int) -> Batch:
            indices = order[step * size : (step + 1) * size][rank::count]
            images, labels = self._data.train.read(indices)
            changed = [
                self._augmentation.apply(image, label, numbers)
                for image, label, numbers in zip(images, labels, drawn[step][rank::count], strict=True)
            ]
            return np.stack([image for image, _ in changed]), np.stack([label for _, label in changed])

        if not self._data.train.slow:
            yield from map(load, range(self._steps_an_epoch))
            return
        with ThreadPoolExecutor(1) as pool:
            waiting: list[Future[Batch]] = []
            for step in range(self._steps_an_epoch):
                waiting.append(pool.submit(load, step))
                if len(waiting) > _AHEAD:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()

    def _step(self, images: UInt8Array, labels: UInt8Array, step: int) -> float:
        options = self._options
        rate = poly_rate(step, options.epochs * self._steps_an_epoch, options)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        wanted = torch.from_numpy(labels).to(self._processes.device).long()
        taught = None if self._teacher is None else self._teacher.scores(images, self._processes.device)
        with self._cast():
            scores = self._forward(self._inputs(images))
        if options.auxiliary:
            loss = self._loss(scores[0], wanted, taught) + options.auxiliary * self._loss(scores[1], wanted)
        else:
            loss = self._loss(scores, wanted, taught)
        if self._scaler is None:
            loss.backward()
            self._optimiser.step()
        else:
            self._scaler.scale(loss).backward()
            self._scaler.step(self._optimiser)
            self._scaler.update()
        return float(loss.item())

    def _inputs(self, images: UInt8Array) -> torch.Tensor:
        inputs = torch.from_numpy(images).to(self._processes.device).contiguous(memory_format=torch.channels_last)
        return inputs.float().sub_(self._mean).mul_(self._factor)

    def validate(self) -> ConfusionMatrix:
        """Count the pixels of all validation images, whole, the scores upsampled bilinearly to the labels' size."""
        module = self._module
        self._processes.share_buffers(module)
        if self._whole is not None:
            load_weights(self._whole, self.weights())
            module = self._whole
        module.eval()
        data, confusion = self._data.validation, ConfusionMatrix(len(self._data.train.class_names))
        size = max(1, VALIDATION_PIXELS // (data.size[0] * data.size[1]))
        mine = np.arange(self._processes.rank, len(data), self._processes.count, dtype=np.int64)
        with torch.no_grad():
            for first in range(0, len(mine), size):
                images, labels = data.read(mine[first : first + size])
                with self._cast():
                    found = module(self._inputs(images))
                scores = (found[0] if isinstance(found, tuple) else found).float()
                if scores.shape[-2:] != labels.shape[-2:]:
                    scores = functional.interpolate(scores, labels.shape[-2:], mode="bilinear", align_corners=False)
                confusion.add(labels[:, 0], scores.argmax(1).cpu().numpy())
        confusion.counts = self._processes.total(confusion.counts)
        return confusion

    def checkpoint(self) -> Checkpoint:
        """See base class."""
        found = super().checkpoint()
        if self._scaler is None:
            return found
        return Checkpoint({**found.state, "loss_scale": self._scaler.state_dict()}, found.arrays)

    def restore(self, checkpoint: Checkpoint) -> None:
        """See base class."""
        super().restore(checkpoint)
        if self._scaler is not None:
            try:
                self._scaler.load_state_dict(checkpoint.state["loss_scale"])
            except (KeyError, TypeError, RuntimeError) as error:
                raise FileFormatError(f"the checkpoint does not fit this training: {error!r}") from error


def _mixed_precision(wanted: str, device: torch.device) -> tuple[Any, Any]:
    """Return a context that lowers precision (or does nothing), and the loss scaler that float16 needs.

    Raises:
        InputError: if the device has no such precision.
    """
    chosen = wanted
    if wanted == "auto":
        chosen = "none"
        if device.type == "cuda":
            chosen = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if chosen == "none":
        return contextlib.nullcontext, None
    if chosen == "float16" and device.type != "cuda":
        raise InputError("mixed_precision float16 needs a GPU", hint="mixed_precision=none, or bfloat16")
    dtype = getattr(torch, chosen)
    scaler = torch.amp.GradScaler(device.type) if chosen == "float16" else None
    return lambda: torch.autocast(device.type, dtype=dtype), scaler
