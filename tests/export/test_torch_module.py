"""The torch module of an op graph: weights in and out, training form, any batch size."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from dfmobile.errors import GraphError, InputError
from dfmobile.export.torch_module import load_weights, module_weights, torch_module
from dfmobile.graph import GraphBuilder, initialise
from dfmobile.testing.op_graphs import OP_CASES, residual_block, unfusable_graph

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


@pytest.mark.parametrize("case", OP_CASES)
def test_weights_round_trip(case: str) -> None:
    graph = OP_CASES[case]
    weights = initialise(graph, seed=3)
    returned = module_weights(torch_module(graph, weights))
    assert list(returned) == list(graph.parameters())
    for name, values in weights.items():
        assert returned[name].dtype == np.float32
        np.testing.assert_array_equal(returned[name], values)


def test_returned_weights_are_copies() -> None:
    graph = residual_block()
    module = torch_module(graph, initialise(graph))
    before = module_weights(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert all(np.any(values) for values in before.values())


def test_op_modules_are_torch_modules_by_node_name() -> None:
    modules = torch_module(residual_block()).op_modules
    norm = modules["block.bn1"]
    assert isinstance(norm, torch.nn.BatchNorm2d)
    assert (norm.eps, norm.momentum) == (1e-4, 0.1)
    assert isinstance(modules["block.conv1"], torch.nn.Conv2d)
    assert "relu1" not in modules


def test_training_moves_weights_and_statistics() -> None:
    graph = residual_block()
    module = torch_module(graph)
    before = module_weights(module)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.randn(4, *graph.inputs[0][1][1:])).square().mean().backward()
    optimiser.step()
    after = module_weights(module)
    assert all(np.any(before[name] != after[name]) for name in before)


def test_batch_size_is_free_and_several_outputs_are_a_tuple() -> None:
    graph = unfusable_graph()
    module = torch_module(graph, initialise(graph)).eval()
    first, second = module(torch.zeros(5, 4, 8, 8))
    assert first.shape == (5, 3, 6, 6)
    assert second.shape == (5, 4, 8, 8)


def test_nodes_may_be_called_like_methods_of_torch_modules() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (1, 2, 4, 4))
    for name in ("type", "forward", "keys", "training", "a", "a.b", "a.b.weight"):
        x = builder.conv(x, 2, 1, name=name)
    graph = builder.build(x)
    weights = initialise(graph)
    assert list(module_weights(torch_module(graph, weights))) == list(weights)


def test_modules_can_be_pickled_for_worker_processes() -> None:
    graph = residual_block()
    module = torch_module(graph, initialise(graph)).eval()
    x = torch.ones(graph.inputs[0][1])
    copy = pickle.loads(pickle.dumps(module))  # noqa: S301  (what multiprocessing does)
    with torch.no_grad():
        assert torch.equal(copy(x), module(x))


def test_bilinear_kernels_are_neither_parameters_nor_state() -> None:
    module = torch_module(OP_CASES["bilinear upsample 2, even"])
    assert not list(module.parameters())
    assert not module.state_dict()


def test_wrong_use_is_one_clear_line() -> None:
    graph = residual_block()
    module = torch_module(graph)
    with pytest.raises(GraphError, match="missing"):
        load_weights(module, {})
    with pytest.raises(GraphError, match="takes 1 inputs, got 2"):
        module(torch.zeros(1), torch.zeros(1))
    with pytest.raises(InputError, match="not made by torch_module"):
        module_weights(torch.nn.ReLU())
