"""A network of torch layers from an ONNX graph, so that an exported model can be bounded again."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn


class OnnxNetwork(nn.Module):
    """The graph of a residual network with max-pool, rebuilt from its nodes and initializers alone."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        values = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
        self.buffer_names = {name: f"value{number}" for number, name in enumerate(values)}
        for name, buffer in self.buffer_names.items():
            self.register_buffer(buffer, values[name])
        self.axes = {
            node.output[0]: values[node.input[1]].tolist() for node in graph.node if node.op_type == "ReduceMean"
        }
        self.inputs, self.output = graph.input[0].name, graph.output[0].name
        self.steps: list[tuple[str, str, list[str], str]] = []
        for number, node in enumerate(graph.node):
            settings = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            layer = self._layer(node, settings, values)
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
