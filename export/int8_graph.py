"""From an fp32 graph to an int8 one: products with int8 weights and activations quantised as they come.

A product becomes one of two operators of ONNX Runtime (domain com.microsoft), by the layout of its weight:

    [units, in]   DynamicQuantizeLinear -> QGemm(transB) -> Add or, before a Gelu, BiasGelu
    [units, out]  DynamicQuantizeMatMul

Both read the weight in the layout in which its narrow versions are prefixes; the standard MatMulInteger wants
[in, out], and would need a transposed copy. Activations are uint8 with a zero point, from the smallest and the largest
value of the tensor (`DynamicQuantizeLinear`). What several products read is quantised once; of the experts, that is the
tokens before they are gathered, so that a quarter of the bytes is copied.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from .errors import GraphBuildError
from .int8 import SCALE, VALUES, ZERO, Int8Weight, Lookup

DOMAIN = "com.microsoft"
_UINT8, _FLOAT = ir.DataType.UINT8, ir.DataType.FLOAT


@dataclass(frozen=True)
class _Quantised:
    """uint8 values with their scale and zero point."""

    values: ir.Value
    scale: ir.Value
    zero: ir.Value


@dataclass
class _Rewriter:
    graph: ir.Graph
    lookup: Lookup
    known: dict[ir.Value, _Quantised] = field(default_factory=dict)
    splits: dict[ir.Node, ir.Node] = field(default_factory=dict)

    def rewrite(self, product: ir.Node) -> bool:
        """Replace a Gemm whose weight has an int8 version."""
        weight, outputs_first = product.inputs[1], _attribute(product, "transB") == 1
        if weight is None or weight.const_value is None or weight.name is None:
            return False
        quantised = self.lookup(weight.name, weight.const_value.numpy())
        if quantised is None:
            return False
        if quantised.rows_are_outputs != outputs_first or _attribute(product, "transA"):
            raise GraphBuildError(f"'{weight.name}' is read in another layout than its int8 version has")
        (self._up if outputs_first else self._down)(product, weight.name, quantised)
        return True

    def _up(self, product: ir.Node, name: str, weight: Int8Weight) -> None:
        read, answer = product.inputs[0], product.outputs[0]
        assert read is not None
        x = self._quantised(read, product)
        zeros = self._constant(name + ZERO, np.zeros(len(weight.scale), np.int8))
        inputs = [x.values, x.scale, x.zero, *self._weight(name, weight), zeros]
        made = self._insert(product, DOMAIN, "QGemm", inputs, [ir.AttrInt64("transB", 1)], like=answer)
        bias = product.inputs[2] if len(product.inputs) > 2 else None
        readers = answer.consumers()
        if bias is not None and [reader.op_type for reader in readers] == ["Gelu"] and not readers[0].attributes:
            gelu = readers[0]
            made = self._insert(product, DOMAIN, "BiasGelu", [made, bias], [], like=gelu.outputs[0])
            _replace(gelu.outputs[0], made)
            self.graph.remove(gelu, safe=True)
        elif bias is not None:
            made = self._insert(product, "", "Add", [made, bias], [], like=answer)
        _replace(answer, made)
        self.graph.remove(product, safe=True)

    def _down(self, product: ir.Node, name: str, weight: Int8Weight) -> None:
        answer = product.outputs[0]
        values, scale = self._weight(name, weight)
        bias = [product.inputs[2]] if len(product.inputs) > 2 else []
        inputs = [product.inputs[0], values, scale, None, *bias]
        _replace(answer, self._insert(product, DOMAIN, "DynamicQuantizeMatMul", inputs, [], like=answer))
        self.graph.remove(product, safe=True)

    def _quantised(self, value: ir.Value, before: ir.Node) -> _Quantised:
        """`value` in uint8: of rows that are gathered or split off, the same rows of the whole in uint8."""
        if value in self.known:
            return self.known[value]
        producer = value.producer()
        if producer is not None and producer.op_type == "Gather" and _attribute(producer, "axis") == 0:
            whole = self._quantised(_first(producer), producer)
            rows = self._insert(
                producer, "", "Gather", [whole.values, producer.inputs[1]], [ir.AttrInt64("axis", 0)],
                like=value, dtype=_UINT8,
            )  # fmt: skip
            found = _Quantised(rows, whole.scale, whole.zero)
        elif producer is not None and producer.op_type == "Split" and _attribute(producer, "axis") == 0:
            whole = self._quantised(_first(producer), producer)
            found = _Quantised(self._split(producer, whole.values).outputs[_place(value)], whole.scale, whole.zero)
        else:
            found = self._quantise(value, before)
        self.known[value] = found
        return found

    def _quantise(self, value: ir.Value, before: ir.Node) -> _Quantised:
        node = ir.Node("", "DynamicQuantizeLinear", [value], num_outputs=3)
        for output, dtype, shape in zip(
            node.outputs, (_UINT8, _FLOAT, _UINT8), (value.shape, ir.Shape(()), ir.Shape(())), strict=True
        ):
            output.type, output.shape = ir.TensorType(dtype), shape
        self.graph.insert_before(before, node)
        return _Quantised(*node.outputs)

    def _split(self, split: ir.Node, values: ir.Value) -> ir.Node:
        """The same split of uint8 rows; the last part, nobody's, goes on as fp32 (its weight is 0)."""
        if split not in self.splits:
            attributes = [a for name, a in split.attributes.items() if name != "num_outputs"]
            node = ir.Node("", "Split", [values, split.inputs[1]], attributes, num_outputs=len(split.outputs))
            for output, old in zip(node.outputs, split.outputs, strict=True):
                output.type, output.shape = ir.TensorType(_UINT8), old.shape
            self.graph.insert_before(split, node)
            nobody = split.outputs[-1]
            cast = self._insert(split, "", "Cast", [node.outputs[-1]], [ir.AttrInt64("to", _FLOAT.value)], like=nobody)
            _replace(nobody, cast)
            self.splits[split] = node
        return self.splits[split]

    def _weight(self, name: str, weight: Int8Weight) -> tuple[ir.Value, ir.Value]:
        return self._constant(name + VALUES, weight.values), self._constant(name + SCALE, weight.scale)

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        known = self.graph.initializers.get(name)
        if known is not None:
            return known
        tensor = ir.tensor(np.ascontiguousarray(array), name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def _insert(
        self,
        before: ir.Node,
        domain: str,
        kind: str,
        inputs: Sequence[ir.Value | None],
        attributes: Sequence[ir.Attr],
        *,
        like: ir.Value,
        dtype: ir.DataType = _FLOAT,
    ) -> ir.Value:
        """The output of a new node, of the shape of `like`."""
        node = ir.Node(domain, kind, inputs, attributes, num_outputs=1)
        node.outputs[0].type, node.outputs[0].shape = ir.TensorType(dtype), like.shape
        self.graph.insert_before(before, node)
        return node.outputs[0]


def to_int8(model: ir.Model, lookup: Lookup) -> int:
    """Rewrite a graph in place; returns how many products are in int8 now.

    Raises:
        GraphBuildError: a product reads its weight in another layout than the int8 one has.
    """
    rewriter = _Rewriter(model.graph, lookup)
    done = sum(rewriter.rewrite(node) for node in list(model.graph) if node.op_type == "Gemm" and not node.domain)
    _drop_unread(model.graph)
    if done:
        model.opset_imports[DOMAIN] = 1
    return done


def _drop_unread(graph: ir.Graph) -> None:
    """Remove nodes and constants that nothing reads any more."""
    kept = set(graph.outputs)
    for node in reversed(list(graph)):
        if not any(output.uses() or output in kept for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and value not in kept:
            del graph.initializers[name]


def _replace(old: ir.Value, new: ir.Value) -> None:
    """Let whatever reads `old` read `new`, which takes its name where that is the graph's output."""
    if old.is_graph_output():
        new.name = old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def _attribute(node: ir.Node, name: str) -> int:
    found = node.attributes.get(name)
    return int(found.value) if found is not None else 0


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _place(value: ir.Value) -> int:
    index = value.index()
    assert index is not None
    return index
