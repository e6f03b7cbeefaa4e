"""A network of torch layers from an ONNX graph, so that an exported model can be bounded again."""

from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn


class OnnxNetwork(nn.Module):
    """The graph of a network, rebuilt from its nodes and initializers alone.

    Drop-max is exported as slices, minima and maxima. Such nodes, between a `Pad` and the next convolution, become
    `pool`; this requires that they compute the same on random values.
    """

    def __init__(self, path: Path, pool: nn.Module | None = None) -> None:
        super().__init__()
        model = onnx.load(path)
        graph = model.graph
        nodes, replaced = list(graph.node), ""
        if pool is not None:
            start = next(number for number, node in enumerate(nodes) if node.op_type == "Pad")
            end = next(number for number, node in enumerate(nodes) if number > start and node.op_type == "Conv")
            source, replaced = nodes[start].input[0], nodes[end].input[0]
            require_equal(model, source, replaced, pool)
            nodes[start:end] = [onnx.helper.make_node("DropMax", [source], [replaced])]
            nodes = [node for node in nodes if node.op_type != "Shape"]  # of the images, for the replaced nodes alone
        values = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
        self.buffer_names = {name: f"value{number}" for number, name in enumerate(values)}
        for name, buffer in self.buffer_names.items():
            self.register_buffer(buffer, values[name])
        self.axes = {node.output[0]: values[node.input[1]].tolist() for node in nodes if node.op_type == "ReduceMean"}
        self.inputs, self.output = graph.input[0].name, graph.output[0].name
        self.steps: list[tuple[str, str, list[str], str]] = []
        for number, node in enumerate(nodes):
            settings = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            layer = pool if node.op_type == "DropMax" else self._layer(node, settings, values)
            if layer is not None:
                self.add_module(f"layer{number}", layer)
            name = "" if layer is None else f"layer{number}"
            self.steps.append((node.op_type, name, list(node.input), node.output[0]))

    def forward(self, x: Tensor) -> Tensor:
        found = {name: getattr(self, buffer) for name, buffer in self.buffer_names.items()} | {self.inputs: x}
        for kind, layer, inputs, output in self.steps:
            first, *rest = (found[name] for name in inputs)
            if layer:
                found[output] = getattr(self, layer)(first)
            elif kind == "Sub":
                found[output] = first - rest[0]
            elif kind == "Div":
                found[output] = first / rest[0]
            elif kind == "Add":
                found[output] = first + rest[0]
            elif kind == "ReduceMean":
                found[output] = first.mean(self.axes[output], keepdim=True)
            else:
                assert kind == "Reshape", f"the graph has a {kind}, which this test does not know"
                found[output] = first.flatten(1)
        return found[self.output]

    def _layer(self, node: onnx.NodeProto, settings: dict[str, object], values: dict[str, Tensor]) -> nn.Module | None:
        if node.op_type == "Relu":
            return nn.ReLU()
        if node.op_type == "MaxPool":
            return nn.MaxPool2d(settings["kernel_shape"], settings["strides"], settings["pads"][:2])
        if node.op_type == "AveragePool":
            return nn.AvgPool2d(settings["kernel_shape"], settings["strides"], settings["pads"][:2])
        if node.op_type not in ("Conv", "Gemm"):
            return None
        weight, *bias = (values[name] for name in node.input[1:])
        if node.op_type == "Gemm":
            assert settings.get("transB") == 1
            layer = nn.Linear(*reversed(weight.shape))
        else:
            assert np.prod(settings["dilations"]) == settings["group"] == 1
            outputs, inputs, *kernel = weight.shape
            layer = nn.Conv2d(inputs, outputs, kernel, settings["strides"], settings["pads"][:2])
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias[0] if bias else torch.zeros(len(weight)))
        return layer


def require_equal(model: onnx.ModelProto, source: str, target: str, pool: nn.Module) -> None:
    """The nodes from one value to another, and `pool`, on random values with ties."""
    inferred, image = onnx.shape_inference.infer_shapes(model), model.graph.input[0]
    nodes = onnx.utils.Extractor(inferred).extract_model([source, image.name], [target])
    (inner,) = (one for one in inferred.graph.value_info if one.name == source)
    values = torch.rand(3, *shape_of(inner), generator=torch.Generator().manual_seed(0)).mul(20).round() / 20
    given = {source: values.numpy(), image.name: np.zeros([3, *shape_of(image)], np.float32)}
    (found,) = onnxruntime.InferenceSession(nodes.SerializeToString()).run([target], given)
    assert np.array_equal(found, pool(values).numpy())


def shape_of(value: onnx.ValueInfoProto) -> list[int]:
    """Without the batch."""
    return [axis.dim_value for axis in value.type.tensor_type.shape.dim][1:]
