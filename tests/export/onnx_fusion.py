"""A model fused with the box of the lesion, rebuilt from its ONNX graph, so that it can be bounded again."""

from pathlib import Path

import onnx
import onnx.utils
import torch
from onnx import numpy_helper

from mirst.nn import BoxFusion
from tests.export.onnx_network import OnnxNetwork


def onnx_fusion(path: Path) -> BoxFusion:
    """The pixel network from the nodes of the graph, and the numbers of the fusion from its constants alone."""
    model = onnx.load(path)
    makers = {node.output[0]: node for node in model.graph.node}
    values = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}

    def before(name: str, *kinds: str) -> onnx.NodeProto:
        """Follow the first inputs through nodes of `kinds` but the last, whose node is returned."""
        for kind in kinds:
            node = makers[name]
            assert node.op_type == kind, f"{name} is made by {node.op_type}, not by {kind}"
            name = node.input[0]
        return node

    bounded = before(before("logits", "Concat", "Unsqueeze", "Neg", "Div", "Add").input[1], "Mul")
    standard = before(bounded.input[0], "Where", "GreaterOrEqual", "Div")
    logits = before(standard.input[0], "Sub", "Gather").input[0]
    pixels = path.with_name("pixels.onnx")
    onnx.save(onnx.utils.Extractor(model).extract_model(["image"], [logits]), pixels)
    fusion = BoxFusion(OnnxNetwork(pixels), positive=1, bound=float(values[bounded.input[1]]))
    for name in ("box_mean", "box_std", "box_weight", "box_bias"):
        getattr(fusion, name).copy_(torch.tensor(values[f"fusion.{name}"]))
    fusion.pixel_var.fill_(float(values[standard.input[1]]) ** 2 - 1e-5)  # the variance without what the fusion adds
    return fusion.eval()
