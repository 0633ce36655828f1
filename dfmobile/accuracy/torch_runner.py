"""An op graph in torch, behind the interface that runtimes of model files have (extra ``train``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError, import_extra
from dfmobile.export.torch_module import torch_module
from dfmobile.graph import Graph, Weights
from dfmobile.runtimes.base import Array, ModelRunner, check_inputs


class TorchRunner(ModelRunner):
    """A graph and its weights in torch on the CPU, batch norms in evaluation mode.

    Args:
        graph: training or deployed form.
        weights: its weights.
        threads: of torch's operators.

    Raises:
        GraphError: if the weights do not fit the graph.
        MissingExtraError: if torch is not installed.
    """

    def __init__(self, graph: Graph, weights: Weights, threads: int = 1) -> None:
        self._torch = import_extra("torch", "train", "running a network in torch")
        self._module: Any = torch_module(graph, weights).eval()
        self._threads = threads
        self.input_shapes = [tuple(shape) for _, shape in graph.inputs]
        self._held: list[Any] = []
        self._results: tuple[Any, ...] = ()

    def set_inputs(self, inputs: Sequence[npt.NDArray[np.float32]]) -> None:
        """See base class."""
        check_inputs(inputs, self.input_shapes)
        self._held = [self._torch.from_numpy(np.array(array)) for array in inputs]

    def invoke(self) -> None:
        """See base class."""
        if self._module is None:
            raise BackendError("this model was closed")
        if self._torch.get_num_threads() != self._threads:
            self._torch.set_num_threads(self._threads)
        with self._torch.inference_mode():
            found = self._module(*self._held)
        self._results = found if isinstance(found, tuple) else (found,)

    def outputs(self) -> list[Array]:
        """See base class."""
        return [np.array(value.numpy()) for value in self._results]

    def close(self) -> None:
        """See base class."""
        self._module = None
        self._held, self._results = [], ()
