"""Write op graphs as code: one method an op, values by name, shapes known at every step."""

from __future__ import annotations

from dfmobile.errors import GraphError
from dfmobile.graph import ops
from dfmobile.graph.graph import Graph, Node, check_arity
from dfmobile.graph.ops import Op, Pair, Shape


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


class GraphBuilder:
    """Collects nodes and infers shapes as they come.

    Example:
        >>> builder = GraphBuilder()
        >>> image = builder.input("image", (1, 3, 32, 32))
        >>> features = builder.relu(builder.conv(image, 8, 3, stride=2, padding=1, name="conv1"))
        >>> builder.build(features).shapes[features]
        (1, 8, 16, 16)
    """

    def __init__(self) -> None:
        self._inputs: list[tuple[str, Shape]] = []
        self._nodes: list[Node] = []
        self._names: set[str] = set()
        self._shapes: dict[str, Shape] = {}

    def input(self, name: str, shape: Shape) -> str:
        """Declare a graph input and return its value name."""
        self._inputs.append((name, shape))
        self._shapes[name] = shape
        return name

    def shape(self, value: str) -> Shape:
        """Return a value's shape."""
        return self._shapes[value]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes so far."""
        return tuple(self._nodes)

    @property
    def node_count(self) -> int:
        """Number of nodes so far."""
        return len(self._nodes)

    def add_op(self, op: Op, *inputs: str, name: str | None = None) -> tuple[str, ...]:
        """Append a node and return the names of its outputs.

        Args:
            op: what it computes.
            inputs: values it reads.
            name: layer name; by default the op's kind with a number.

        Raises:
            GraphError: if the name is taken, an input is unknown, or shapes do not fit.
        """
        if name is None:
            number = 1
            while f"{op.kind}{number}" in self._names:
                number += 1
            name = f"{op.kind}{number}"
        if name in self._names or name in self._shapes:
            raise GraphError(f"two nodes are called {name!r}")
        unknown = [value for value in inputs if value not in self._shapes]
        if unknown:
            raise GraphError(f"node {name!r} reads {unknown[0]!r}, which no earlier node makes")
        check_arity(op, inputs, name)
        try:
            shapes = op.infer(tuple(self._shapes[value] for value in inputs))
        except GraphError as error:
            raise GraphError(f"node {name!r}: {error}", error.hint) from error
        outputs = (name,) if len(shapes) == 1 else tuple(f"{name}:{index}" for index in range(len(shapes)))
        self._nodes.append(Node(name, op, inputs, outputs))
        self._names.add(name)
        self._shapes.update(zip(outputs, shapes, strict=True))
        return outputs

    def build(self, *outputs: str) -> Graph:
        """Return the checked graph."""
        return Graph(self._inputs, self._nodes, outputs)

    def conv(
        self,
        value: str,
        out_channels: int,
        kernel: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        bias: bool = False,
        name: str | None = None,
    ) -> str:
        """Append a convolution."""
        op = ops.Conv(out_channels, _pair(kernel), _pair(stride), _pair(padding), bias)
        return self.add_op(op, value, name=name)[0]

    def depthwise_conv(
        self,
        value: str,
        kernel: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        bias: bool = False,
        name: str | None = None,
    ) -> str:
        """Append a depthwise convolution."""
        op = ops.DepthwiseConv(_pair(kernel), _pair(stride), _pair(padding), bias)
        return self.add_op(op, value, name=name)[0]

    def batch_norm(self, value: str, epsilon: float, name: str | None = None) -> str:
        """Append a batch normalisation."""
        return self.add_op(ops.BatchNorm(epsilon), value, name=name)[0]

    def relu(self, value: str, name: str | None = None) -> str:
        """Append a ReLU."""
        return self.add_op(ops.Relu(), value, name=name)[0]

    def add(self, left: str, right: str, name: str | None = None) -> str:
        """Append a sum."""
        return self.add_op(ops.Add(), left, right, name=name)[0]

    def concat(self, *values: str, name: str | None = None) -> str:
        """Append a concatenation over channels."""
        return self.add_op(ops.Concat(), *values, name=name)[0]

    def split(self, value: str, sizes: tuple[int, ...], name: str | None = None) -> tuple[str, ...]:
        """Append a split over channels."""
        return self.add_op(ops.Split(sizes), value, name=name)

    def average_pool(self, value: str, kernel: int | Pair, name: str | None = None) -> str:
        """Append an average pool whose stride is its window."""
        return self.add_op(ops.AveragePool(_pair(kernel), _pair(kernel)), value, name=name)[0]

    def resize_bilinear(self, value: str, size: Pair, *, align_corners: bool = False, name: str | None = None) -> str:
        """Append a bilinear resize."""
        return self.add_op(ops.ResizeBilinear(size, align_corners), value, name=name)[0]

    def bilinear_upsample(self, value: str, scale: int, name: str | None = None) -> str:
        """Append a fixed bilinear transposed conv."""
        return self.add_op(ops.BilinearUpsample(scale), value, name=name)[0]
