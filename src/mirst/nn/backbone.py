"""Initial weights: from files, from public sources by name, or from pretraining."""

import hashlib
import json
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mirst.download import download
from mirst.errors import MirstError
from mirst.files import atomic, cache_folder
from mirst.nn.box_fusion import BoxFusion
from mirst.nn.factory import LIBRARIES, library_of
from mirst.nn.libraries import NO_OPTIONS, published_model, version_of
from mirst.nn.normalized import Normalized
from mirst.untrusted.safetensors_files import COUNTER, is_tensors, open_tensors
from mirst.untrusted.state_dict_pickles import require_plain_state_dict

IMAGENET = {
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
}
"""torchvision's; the file names end with the beginning of their SHA-256."""
HEAD = "fc."
"""Prefix of the last layer of a classifier, except in networks of other libraries. Training always starts it from
random weights."""
PRETRAINED = "pretrained"
"""The weights that a library publishes for its network."""


@dataclass(frozen=True)
class LoadedBackbone:
    """The weights that `load_backbone` loaded from a file.

    >>> from mirst.nn import build_model
    >>> save_backbone("backbone.safetensors", build_model("resnet_tiny", 1, 2))
    >>> loaded = load_backbone(build_model("resnet_tiny", 1, 5), "backbone.safetensors")
    >>> (loaded.matched, loaded.of, loaded.unused)
    (72, 72, ())
    """

    source: str
    """The name given to `load_backbone`."""
    sha256: str
    """Of the file."""
    matched: int
    of: int
    """Tensors of the network without its last layer, and without batch norm counters that are missing in the file."""
    unused: tuple[str, ...]
    """Tensors of the file that do not fit the network."""

    def __str__(self) -> str:
        rest = (
            f"; not used: {', '.join(self.unused[:4])}{' ...' if len(self.unused) > 4 else ''}" if self.unused else ""
        )
        return (
            f"{self.matched} of {self.of} tensors from {self.source} (sha256 {self.sha256[:8]}); the last layer is "
            f"initialised randomly{rest}"
        )


def load_backbone(
    model: nn.Module, weights: str | Path, name: str = "", options: Mapping[str, Any] = NO_OPTIONS
) -> LoadedBackbone:
    """Load weights in torchvision's layout into `model`, except for its last layer.

    Args:
        weights: a safetensors file; a file of `torch.save`, which is read with `weights_only=True` if it contains a
            plain state dict, also nested under `state_dict` or `model` or with prefixed keys; `imagenet`, which is
            downloaded once; `pretrained`, the weights that a library publishes for its network; or `simclr-imagenet`,
            a converted file in the cache.
        name, options: of the model, for `imagenet` and `pretrained`.

    Raises:
        MirstError: the file cannot be found, downloaded or read safely, is of images with another number of channels,
            or lacks a weight of the backbone.
    """
    network = _network(model)
    path = find_weights(str(weights), name, options)
    own = network.state_dict()
    source = _unprefixed(_read_state(path), own)
    head = _last_layer(network) if library_of(name) else HEAD
    fitting = {k: v for k, v in source.items() if k in own and _fits(v, own[k]) and not k.startswith(head)}
    body = [k for k in own if not k.startswith(head) and (k in source or not k.endswith(COUNTER))]
    _require_channels(path, source, own)
    missing = [key for key in body if key not in fitting]
    if missing:
        raise MirstError(
            f"model.weights: {path} lacks {len(missing)} of {len(body)} backbone weights, the first {missing[0]}; "
            "give a checkpoint of the same network"
        )
    network.load_state_dict(fitting, strict=False)
    unused = tuple(sorted(source.keys() - fitting.keys()))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return LoadedBackbone(str(weights), digest, len(fitting), len(body), unused)


def replace_head(model: nn.Module, make: Callable[[int], nn.Module]) -> None:
    """Replace the last layer by `make(width of the features)`.

    Raises:
        MirstError: the model has no linear layer called `fc`.
    """
    network: Any = _network(model)
    if not isinstance(getattr(network, "fc", None), nn.Linear):
        raise MirstError(f"{type(network).__name__} has no last layer fc to replace; use one of mirst's own models")
    network.fc = make(network.fc.in_features)


def save_backbone(path: str | Path, model: nn.Module, metadata: Mapping[str, str] | None = None) -> None:
    """Write the weights of `model` without its last layer, in the layout that `load_backbone` reads.

    Args:
        metadata: of the safetensors file.
    """
    network = _network(model)
    state = _contiguous({k: v for k, v in network.state_dict().items() if not k.startswith(HEAD)})
    with atomic(path) as partial:
        partial.write_bytes(
            save(state, metadata=dict(metadata or {}))
        )  # save_file would make it readable for its owner only


def _network(model: nn.Module) -> nn.Module:
    """`model` without the fusion with a box and without its input normalisation."""
    if isinstance(model, BoxFusion):
        model = model.pixels
    return model.network if isinstance(model, Normalized) else model


def _last_layer(network: nn.Module) -> str:
    """Prefix of the last layer that has weights of its own, in the order in which the network lists them."""
    owners = [name for name, layer in network.named_modules() if [*layer.parameters(recurse=False)]]
    return f"{owners[-1]}."


def find_weights(weights: str, name: str, options: Mapping[str, Any] = NO_OPTIONS) -> Path:
    """The file that `weights` names, downloaded if necessary; see `load_backbone`.

    Raises:
        MirstError: it cannot be found or downloaded.
    """
    if weights == "imagenet":
        if name not in IMAGENET:
            other = "set pretrained" if library_of(name) else "give a file"
            raise MirstError(f"model.weights: imagenet exists for {', '.join(IMAGENET)}, not for {name}; {other}")
        return _imagenet(IMAGENET[name])
    if weights == PRETRAINED:
        return _published(name, options)
    if weights == "simclr-imagenet":
        path = cache_folder() / "weights" / "simclr-imagenet.safetensors"
        if not path.is_file():
            raise MirstError(
                f"model.weights: {weights} has no public download in this layout; put a converted state dict at "
                f"{path}, or give another source with --set model.weights=PATH"
            )
        return path
    if not Path(weights).is_file():
        raise MirstError(
            f"model.weights: {weights} does not exist; give a state-dict file of torchvision's layout, imagenet, "
            "pretrained, or random"
        )
    return Path(weights)


def _imagenet(url: str) -> Path:
    file = PurePosixPath(url)
    path = cache_folder() / "weights" / file.name
    if not path.exists():
        print(f"fetching {url}", file=sys.stderr)  # a minute of silence otherwise
    try:
        return download(url, path, f"sha256:{file.stem.rpartition('-')[2]}")
    except MirstError as error:
        raise MirstError(f"model.weights: {error}; or give another source with --set model.weights=PATH") from error


def _published(name: str, options: Mapping[str, Any]) -> Path:
    """A file in the cache, so that workers on other machines get it like any other file of weights."""
    if not library_of(name):
        raise MirstError(
            f"model.weights: pretrained exists for networks of {', '.join(LIBRARIES)}, not for {name}; give a file, or "
            f"imagenet for {' or '.join(IMAGENET)}"
        )
    made_of = json.dumps([name, version_of(name), dict(options)], sort_keys=True)
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    path = cache_folder() / "weights" / f"{name.replace(':', '-')}-{digest}.safetensors"
    if not path.exists():
        print(f"fetching the pretrained weights of {name}", file=sys.stderr)
        model = published_model(name, options)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as partial:
            partial.write_bytes(save(_contiguous(model.network.state_dict())))
    return path


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state = _read_tensors(path) if is_tensors(path) else _read_pickled(path)
    except Exception as error:
        raise MirstError(f"model.weights: {path} cannot be read as a state dict ({error})") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise MirstError(f"model.weights: {path} does not contain a plain state dict of tensors")
    return state


def _read_tensors(path: Path) -> dict[str, Tensor]:
    with open_tensors(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)


def _read_pickled(path: Path) -> Any:
    require_plain_state_dict(path)
    mapped = zipfile.is_zipfile(path)  # or storages of any declared size are allocated
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _require_channels(path: Path, source: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Of the images, which the first convolution has as its second dimension."""
    first = next((key for key, weight in own.items() if weight.dim() == 4), None)
    if first is None or first not in source or source[first].dim() != 4:
        return
    theirs, ours = source[first].shape[1], own[first].shape[1]
    if theirs != ours and {theirs, ours} == {1, 3}:
        raise MirstError(
            f"model.weights: {path} was trained on images of {theirs} channel{'s'[: theirs > 1]}, but the images of "
            f"this study have {ours}; set data.channels to {theirs}, or give other weights"
        )


def _fits(value: Tensor, own: Tensor) -> bool:
    return value.shape == own.shape and not value.is_complex()


def _unprefixed(source: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the prefix of a wrapper, such as `module.`, `network.` or `encoder.`."""
    if own.keys() & source.keys():
        return source
    first = next(iter(own))
    heads = sorted((key.removesuffix(first) for key in source if key.endswith(first)), key=len)
    if not heads:
        return source
    return {key.removeprefix(heads[0]): value for key, value in source.items()}
