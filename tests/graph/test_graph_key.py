"""Laws of the LUT key: it depends on what is computed, never on names or on the order of writing."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from dfmobile.graph import Graph, GraphBuilder, Node, ops
from dfmobile.testing.op_graphs import EVEN, OP_CASES, residual_block, shuffle_unit, small_networks


def rewritten(graph: Graph, draw: st.DrawFn) -> Graph:
    """Return the same graph under other names, in another order of independent nodes, with adds turned round."""
    names = {name: f"in{position}" for position, (name, _) in enumerate(graph.inputs)}
    pending, nodes = list(graph.nodes), []
    while pending:
        ready = [node for node in pending if all(name in names for name in node.inputs)]
        node = draw(st.sampled_from(ready))
        pending.remove(node)
        inputs = tuple(names[name] for name in node.inputs)
        if isinstance(node.op, ops.Add) and draw(st.booleans()):
            inputs = inputs[::-1]
        number = len(nodes)
        outputs = tuple(f"layer{number}:{index}" for index in range(len(node.outputs)))
        names.update(zip(node.outputs, outputs, strict=True))
        nodes.append(Node(f"layer{number}", node.op, inputs, outputs))
    return Graph([(names[name], shape) for name, shape in graph.inputs], nodes, [names[name] for name in graph.outputs])


@given(graph=small_networks(), data=st.data())
def test_names_order_and_operands_of_adds_do_not_matter(graph: Graph, data: st.DataObject) -> None:
    other = data.draw(st.composite(lambda draw: rewritten(graph, draw))())
    assert other.key == graph.key
    assert other.digest == graph.digest


def test_operands_of_an_add_that_are_made_alike_are_told_apart_by_their_readers() -> None:
    def written(swapped: bool) -> str:
        builder = GraphBuilder()
        x = builder.input("x", EVEN)
        first, second = builder.conv(x, 8, 1), builder.conv(x, 8, 1)
        total = builder.add(second, first) if swapped else builder.add(first, second)
        return builder.build(builder.concat(total, first)).key

    assert written(swapped=True) == written(swapped=False)


@given(graph=small_networks(), data=st.data())
def test_another_attribute_makes_another_key(graph: Graph, data: st.DataObject) -> None:
    position = data.draw(st.sampled_from(range(len(graph.nodes))))
    node = graph.nodes[position]
    changes: dict[type[ops.Op], ops.Op] = {
        ops.Relu: ops.Relu6(),
        ops.Relu6: ops.Relu(),
        ops.BatchNorm: ops.BatchNorm(1e-5),
    }
    if isinstance(node.op, (ops.Conv, ops.DepthwiseConv)):
        changed: ops.Op = dataclasses.replace(node.op, bias=not node.op.bias)
    elif type(node.op) in changes:
        changed = changes[type(node.op)]
    else:
        return
    nodes = [dataclasses.replace(item, op=changed) if item is node else item for item in graph.nodes]
    assert Graph(graph.inputs, nodes, graph.outputs).key != graph.key


def test_every_case_has_its_own_key() -> None:
    keys = [graph.key for graph in OP_CASES.values()]
    assert len(set(keys)) == len(keys)


def test_shape_order_of_concat_and_order_of_outputs_matter() -> None:
    def written(concat_first: bool = True, output_first: bool = True, height: int = 10) -> str:
        builder = GraphBuilder()
        x = builder.input("x", (1, 8, height, 12))
        a, b = builder.relu(x), builder.add_op(ops.Relu6(), x)[0]
        joined = builder.concat(a, b) if concat_first else builder.concat(b, a)
        return builder.build(*((joined, a) if output_first else (a, joined))).key

    assert len({written(), written(concat_first=False), written(output_first=False), written(height=8)}) == 4


def test_two_equal_nodes_are_not_one() -> None:
    builder = GraphBuilder()
    x = builder.input("x", EVEN)
    shared = builder.conv(x, 4, 1)
    once = builder.build(builder.add(shared, shared)).key
    builder = GraphBuilder()
    x = builder.input("x", EVEN)
    twice = builder.build(builder.add(builder.conv(x, 4, 1), builder.conv(x, 4, 1))).key
    assert once != twice


def test_keys_read_as_text_and_name_no_layer() -> None:
    key = residual_block().key
    assert key.startswith("f32 1x6x9x8 | ")
    assert "block." not in key
    assert residual_block(stride=1).key != key != shuffle_unit().key
    assert len(residual_block().digest) == 12
