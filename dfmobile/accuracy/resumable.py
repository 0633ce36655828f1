"""What trainings have in common: a module, an optimiser, and a state that can be written down and taken up again.

Imports torch: reach it through the evaluators.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from dfmobile.accuracy.checkpoint import Arrays, Checkpoint
from dfmobile.errors import FileFormatError
from dfmobile.export.torch_module import module_weights
from dfmobile.graph import Weights


def sgd(module: nn.Module, learning_rate: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """Return SGD with Nesterov momentum; weights decay, biases and batch norms do not."""
    decayed = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0)


class ResumableTrainer(ABC):
    """A training in progress.

    Args:
        module: made by ``torch_module``; what is trained.
        optimiser: of its parameters, with a momentum each.
        epochs: in the whole training.

    Attributes:
        epoch: number of finished epochs.
        curve: one JSON object for each of them.
    """

    def __init__(self, module: nn.Module, optimiser: torch.optim.SGD, epochs: int) -> None:
        self._module = module
        self._optimiser = optimiser
        self._epochs = epochs
        self.epoch = 0
        self.curve: list[dict[str, Any]] = []

    @abstractmethod
    def run_epoch(self) -> dict[str, Any]:
        """Train for one epoch, validate, and return (and keep) the learning curve's new point.

        Raises:
            EvaluationError: if the loss is no longer a number.
        """

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self._epochs

    def weights(self) -> Weights:
        """Return copies of the network's weights, by ``<node>.<role>``."""
        return module_weights(self._module)

    def checkpoint(self) -> Checkpoint:
        """Write down everything that the next epoch depends on."""
        arrays: Arrays = {f"model/{name}": value.cpu().numpy().copy() for name, value in self._state().items()}
        for number, parameter in enumerate(self._parameters()):
            momentum = self._optimiser.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                arrays[f"momentum/{number}"] = momentum.cpu().numpy().copy()
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
