"""Train one network, an epoch at a time, with a state that can be written down and taken up again.

Every random choice is a function of (seed, epoch), the optimiser's momenta and torch's generator are part of the
state, and threads are fixed: so an interrupted and resumed training gives the same bits as an unbroken one.
Imports torch: reach it through ``dfmobile.accuracy.training``.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from dfmobile.accuracy.initialise import initial_weights
from dfmobile.accuracy.options import TrainingOptions
from dfmobile.accuracy.resumable import ResumableTrainer, sgd
from dfmobile.data.augment import augment
from dfmobile.data.dataset import ImageDataset, TrainingData, UInt8Array
from dfmobile.errors import EvaluationError, InputError
from dfmobile.export.torch_module import torch_module
from dfmobile.graph import Graph

VALIDATION_BATCH = 250


@contextlib.contextmanager
def fixed_torch(threads: int, seed: int) -> Iterator[None]:
    """Set threads and seed torch's generator; put both back as they were at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def learning_rate(step: int, steps: int, options: TrainingOptions) -> float:
    """Return the rate of a step: a linear rise over the warm-up, then half a cosine down to 0.

    Args:
        step: from 0 to ``steps - 1``.
        steps: in the whole training.
        options: top of the cycle and share of the warm-up.
    """
    rise = options.warm_up * steps
    if step + 1 < rise:
        return options.learning_rate * (step + 1) / rise
    share = (step + 1 - rise) / max(1.0, steps - rise)
    return options.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))


class Trainer(ResumableTrainer):
    """A training in progress.

    Args:
        graph: network in its training form; one input ``[N, C, H, W]``, one output ``[N, classes]``.
        data: what it learns from.
        options: how.
        seed: of the starting weights, the order of the images and their augmentation.

    Raises:
        InputError: if there are fewer training images than a batch has.
    """

    def __init__(self, graph: Graph, data: TrainingData, options: TrainingOptions, seed: int) -> None:
        if len(data.train) < options.batch_size:
            raise InputError(
                f"{len(data.train)} training images are fewer than a batch of {options.batch_size}",
                hint="give a smaller batch_size",
            )
        # Channels last: 1.5 times as fast as the default layout for these small networks on CPUs.
        module = torch_module(graph, initial_weights(graph, seed)).to(memory_format=torch.channels_last)
        optimiser = sgd(module, options.learning_rate, options.momentum, options.weight_decay)
        super().__init__(module, optimiser, options.epochs)
        self._data = data
        self._options = options
        self._seed = seed
        self._mean = torch.from_numpy(data.mean * 255).view(-1, 1, 1)
        self._factor = torch.from_numpy(1 / (data.std * 255)).view(-1, 1, 1)
        self._steps_an_epoch = len(data.train) // options.batch_size

    def run_epoch(self, *, validate: bool = True) -> dict[str, Any]:
        """Train for one epoch, validate, and return (and keep) the learning curve's new point.

        Args:
            validate: whether to; without it, the point has no validation loss and accuracy.

        Raises:
            EvaluationError: if the loss is no longer a number.
        """
        start = time.monotonic()
        generator = np.random.default_rng((self._seed, self.epoch))
        order = generator.permutation(len(self._data.train))
        size = self._options.batch_size
        self._module.train()
        total = 0.0
        for step in range(self._steps_an_epoch):
            chosen = order[step * size : (step + 1) * size]
            images = augment(self._data.train.images[chosen], self._options.augmentation, generator)
            loss = self._step(images, self._data.train.labels[chosen], self.epoch * self._steps_an_epoch + step)
            if not math.isfinite(loss):
                raise EvaluationError(
                    f"the training diverged in epoch {self.epoch + 1}: its loss is {loss}",
                    hint="give a lower learning_rate",
                )
            total += loss
        self.epoch += 1
        point: dict[str, Any] = {"epoch": self.epoch, "train_loss": total / self._steps_an_epoch}
        if validate:
            accuracy, loss = self.validate(self._data.validation)
            point |= {"validation_loss": loss, "validation_accuracy": accuracy}
        point["seconds"] = time.monotonic() - start
        self.curve.append(point)
        return point

    def _step(self, images: UInt8Array, labels: Any, step: int) -> float:
        rate = learning_rate(step, self._options.epochs * self._steps_an_epoch, self._options)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        scores = self._module(self._inputs(images))
        loss = functional.cross_entropy(scores, torch.from_numpy(labels), label_smoothing=self._options.label_smoothing)
        loss.backward()
        self._optimiser.step()
        return float(loss.item())

    def _inputs(self, images: UInt8Array) -> torch.Tensor:
        inputs = torch.from_numpy(images).contiguous(memory_format=torch.channels_last).float()
        return inputs.sub_(self._mean).mul_(self._factor)

    def validate(self, dataset: ImageDataset) -> tuple[float, float]:
        """Return accuracy and mean cross entropy (without label smoothing) on a dataset."""
        self._module.eval()
        right, loss = 0, 0.0
        with torch.no_grad():
            for first in range(0, len(dataset), VALIDATION_BATCH):
                labels = torch.from_numpy(dataset.labels[first : first + VALIDATION_BATCH])
                scores = self._module(self._inputs(dataset.images[first : first + VALIDATION_BATCH]))
                right += int((scores.argmax(1) == labels).sum())
                loss += float(functional.cross_entropy(scores, labels, reduction="sum"))
        return right / len(dataset), loss / len(dataset)
