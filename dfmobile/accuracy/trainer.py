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
from torch import nn
from torch.nn import functional

from dfmobile.accuracy.checkpoint import Arrays, Checkpoint
from dfmobile.accuracy.initialise import initial_weights
from dfmobile.accuracy.options import TrainingOptions
from dfmobile.data.augment import augment
from dfmobile.data.dataset import ImageDataset, TrainingData, UInt8Array
from dfmobile.errors import EvaluationError, FileFormatError, InputError
from dfmobile.export.torch_module import module_weights, torch_module
from dfmobile.graph import Graph, Weights

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


class Trainer:
    """A training in progress.

    Args:
        graph: network in its training form; one input ``[N, C, H, W]``, one output ``[N, classes]``.
        data: what it learns from.
        options: how.
        seed: of the starting weights, the order of the images and their augmentation.

    Attributes:
        epoch: number of finished epochs.
        curve: one JSON object for each of them.

    Raises:
        InputError: if there are fewer training images than a batch has.
    """

    def __init__(self, graph: Graph, data: TrainingData, options: TrainingOptions, seed: int) -> None:
        if len(data.train) < options.batch_size:
            raise InputError(
                f"{len(data.train)} training images are fewer than a batch of {options.batch_size}",
                hint="give a smaller batch_size",
            )
        self._data = data
        self._options = options
        self._seed = seed
        # Channels last: 1.5 times as fast as the default layout for these small networks on CPUs.
        self._module = torch_module(graph, initial_weights(graph, seed)).to(memory_format=torch.channels_last)
        self._mean = torch.from_numpy(data.mean * 255).view(-1, 1, 1)
        self._factor = torch.from_numpy(1 / (data.std * 255)).view(-1, 1, 1)
        self._optimiser = self._make_optimiser()
        self._steps_an_epoch = len(data.train) // options.batch_size
        self.epoch = 0
        self.curve: list[dict[str, Any]] = []

    def _make_optimiser(self) -> torch.optim.SGD:
        decayed = [parameter for parameter in self._module.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self._module.parameters() if parameter.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self._options.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        momentum = self._options.momentum
        return torch.optim.SGD(groups, lr=self._options.learning_rate, momentum=momentum, nesterov=momentum > 0)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self._options.epochs

    def weights(self) -> Weights:
        """Return copies of the network's weights, by ``<node>.<role>``."""
        return module_weights(self._module)

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

    def checkpoint(self) -> Checkpoint:
        """Write down everything that the next epoch depends on."""
        arrays: Arrays = {f"model/{name}": value.numpy().copy() for name, value in self._state().items()}
        for number, parameter in enumerate(self._parameters()):
            momentum = self._optimiser.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                arrays[f"momentum/{number}"] = momentum.numpy().copy()
        arrays["torch_generator"] = torch.get_rng_state().numpy().copy()
        return Checkpoint({"epoch": self.epoch, "curve": self.curve}, arrays)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint of a training with the same graph, data, options and seed.

        Raises:
            FileFormatError: if it is of another network.
        """
        try:
            arrays = checkpoint.arrays
            with torch.no_grad():
                for name, value in self._state().items():
                    value.copy_(torch.from_numpy(arrays[f"model/{name}"]))
                for number, parameter in enumerate(self._parameters()):
                    momentum = torch.from_numpy(arrays[f"momentum/{number}"])
                    if momentum.shape != parameter.shape:
                        raise ValueError("a momentum has another shape")  # noqa: TRY301
                    self._optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
            torch.set_rng_state(torch.from_numpy(arrays["torch_generator"]))
            self.curve = list(checkpoint.state["curve"])
            self.epoch = int(checkpoint.state["epoch"])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise FileFormatError(
                f"the checkpoint does not fit this training: {error}", hint="remove its folder to begin again"
            ) from error

    def _state(self) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = nn.Module.state_dict(self._module)
        return state

    def _parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self._optimiser.param_groups for parameter in group["params"]]
