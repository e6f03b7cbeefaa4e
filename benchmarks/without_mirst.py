"""Run by `benchmarks.exports`: the exported files of a folder on its `images.npy`, read as strangers to mirst do."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from monai.networks.nets import resnet
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F


class SecondLargest(nn.Module):
    """Drop-max in the place of a max-pool with windows of 3, stride 2 and padding 1, by sorting."""

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), value=-torch.inf)
        return padded.unfold(2, 3, 2).unfold(3, 3, 2).flatten(-2).sort(descending=True).values[..., 1]


def from_onnx(path: Path, x: Tensor) -> np.ndarray:
    return onnxruntime.InferenceSession(path).run(["logits"], {"image": x.numpy()})[0]


def from_torch_export(path: Path, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return torch.export.load(path).module()(x).numpy()


def from_safetensors(path: Path, x: Tensor) -> np.ndarray:
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["mirst"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    shape = {"spatial_dims": 2, "conv1_t_stride": 2, "bias_downsample": False, "num_classes": len(told["classes"])}
    if told["model"] == "resnet_tiny":
        widths = {"layers": [1] * 4, "block_inplanes": [16, 32, 64, 128], "conv1_t_size": 5}
        net = resnet.ResNet("basic", n_input_channels=told["channels"], **widths, **shape)
    else:
        net = getattr(resnet, told["model"])(n_input_channels=3, **shape)
    if told["drop_max"]:
        net.maxpool = SecondLargest()
    net.load_state_dict(weights)
    mean, std = (torch.tensor(told[key]).view(-1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        return net.eval()((x - mean) / std).numpy()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    images = torch.from_numpy(np.load(folder / "images.npy"))
    for read, name in (
        (from_onnx, "model.onnx"),
        (from_torch_export, "model.pt2"),
        (from_safetensors, "model.safetensors"),
    ):
        np.save(folder / f"{name}.npy", read(folder / name, images))
