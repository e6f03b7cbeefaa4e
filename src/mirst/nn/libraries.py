"""Networks of other libraries by name: `monai:DenseNet121`, `timm:resnet18`, `torchvision:resnet18`."""

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any

import torch
from torch import nn

from mirst.errors import MirstError, suggestion
from mirst.nn.factory import described, in_words
from mirst.nn.normalized import IMAGENET_MEAN, IMAGENET_STD, Normalized

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
CHANNELS = 3
"""Of every network, as published weights have; a gray image is replicated, as in mirst's own ResNets."""
PUBLISHED_CLASSES = 1000
SET_BY_MIRST = frozenset(("spatial_dims", "in_channels", "n_input_channels", "in_chans", "num_classes", "out_channels"))
WEIGHTS = frozenset(
    ("pretrained", "weights", "progress", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
)
"""Options that load weights. A checkpoint names its options, and opening it must not download or read other files."""

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and std of each input channel."""


@dataclass(frozen=True)
class Library:
    """How networks of a library are made. Each function gets the library's module first."""

    module: str
    names: Callable[[Any], list[str]]
    constructor: Callable[[Any, str], Callable[..., Any]]
    make: Callable[[Any, str, int, dict[str, Any], bool], nn.Module]
    """By name, classes and options, with published weights or without."""
    statistics: Callable[[Any, str, nn.Module], Statistics]


def build_library_model(name: str, num_classes: int, options: Mapping[str, Any]) -> Normalized:
    """A network without published weights, behind the normalisation that its published weights need.

    Args:
        name: `LIBRARY:NETWORK`.
        num_classes: number of logits.
        options: keyword arguments of the network's constructor.

    Returns:
        A module from `(N, 1 or 3, H, W)` pixels in [0, 1] to `(N, num_classes)` logits. Its network has three input
        channels, and a gray image is replicated.

    Raises:
        MirstError: the library is not installed, has no such network, or its constructor raises an error.
    """
    return _made(name, num_classes, options, published=False)


def published_model(name: str, options: Mapping[str, Any]) -> Normalized:
    """The network with its published weights and classes, which the library downloads once.

    Raises:
        MirstError: as `build_library_model`; or there are no such weights, or they cannot be downloaded.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        untrained = _made(name, PUBLISHED_CLASSES, options, published=False)
        torch.manual_seed(0)
        model = _made(name, PUBLISHED_CLASSES, options, published=True)
    before = untrained.network.state_dict()
    matrices = {key: value for key, value in model.network.state_dict().items() if value.dim() > 1}
    random = [key for key, value in matrices.items() if torch.equal(value, before[key])]  # MONAI skips misfits
    if random:
        raise MirstError(
            f"model.weights: the pretrained weights of {name} lack {len(random)} of {len(matrices)} weights, the first "
            f"{random[0]}; change model.options, or set model.weights to random or a file"
        )
    return model


def network_in_words(name: str, options: Mapping[str, Any]) -> str:
    """The name of a model with its options.

    >>> network_in_words("monai:DenseNet121", {"init_features": 32})
    'monai:DenseNet121 (init_features=32)'
    """
    return f"{name} ({', '.join(f'{key}={value}' for key, value in options.items())})" if options else name


def version_of(name: str) -> str:
    """The version of the library of `name`."""
    _library(name)
    return str(sys.modules[name.partition(":")[0]].__version__)


def _made(name: str, classes: int, options: Mapping[str, Any], published: bool) -> Normalized:
    module = _library(name)
    library, network = _LIBRARIES[name.partition(":")[0]], name.partition(":")[2]
    _require_network(name, network, library.names(module))
    _require_options(name, options)
    try:
        made = library.make(module, network, classes, dict(options), published)
    except MirstError:
        raise
    except Exception as error:
        if isinstance(error, ImportError):  # of MONAI, with a traceback below its first line
            raise MirstError(
                f"model.name: {name} needs another package; install it ({str(error).splitlines()[0]})"
            ) from error
        if published:
            online = "run the command once with a network connection, or " if isinstance(error, OSError) else ""
            raise MirstError(
                f"model.weights: the pretrained weights of {name} could not be loaded ({in_words(error)}); {online}set "
                "model.weights to random or a file"
            ) from error
        _require_known(name, options, error, library.constructor(module, network))
        raise MirstError(
            f"model.name: {name} raised {in_words(error)}; set what its constructor takes with model.options"
        ) from error
    if not isinstance(made, nn.Module):
        raise MirstError(f"model.name: {name} is {described(made)}, not a network; name another one")
    return Normalized(made, *library.statistics(module, network, made))


def _library(name: str) -> ModuleType:
    package = name.partition(":")[0]
    try:
        return importlib.import_module(_LIBRARIES[package].module)
    except ImportError as error:
        raise MirstError(f"model.name: {name} needs {package}; pip install 'mirst[{package}]'") from error
    except Exception as error:
        raise MirstError(f"model.name: importing {package} failed with {in_words(error)}; reinstall it") from error


def _require_network(name: str, network: str, known: list[str]) -> None:
    if network.partition(".")[0] in known:  # timm's names end with a tag, as in resnet18.a1_in1k
        return
    lower = {one.lower(): one for one in reversed(known)}  # of several spellings, MONAI lists the usual one first
    close = [lower[key] for key in difflib.get_close_matches(network.lower(), lower, 3)]
    package = name.partition(":")[0]
    hint = f"did you mean {', '.join(close)}?" if close else f"it has {', '.join(known[:5])} and {len(known) - 5} more"
    raise MirstError(f"model.name: {package} has no network {network}; {hint}")


def _require_options(name: str, options: Mapping[str, Any]) -> None:
    for key in options:
        if key in SET_BY_MIRST:
            raise MirstError(f"model.options: {key} of {name} is set by mirst; leave it out")
        if key in WEIGHTS:
            raise MirstError(f"model.options: {key} loads weights; leave it out and set model.weights to pretrained")


def _require_known(name: str, options: Mapping[str, Any], error: Exception, constructor: Callable[..., Any]) -> None:
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown and unknown[1] in options:
        known = sorted(_parameters(constructor) - SET_BY_MIRST - WEIGHTS - {"self", "kwargs"})
        raise MirstError(f"model.options: {name} takes no {unknown[1]}{suggestion(unknown[1], known)}") from error


def _parameters(constructor: Callable[..., Any]) -> set[str]:
    """What a constructor takes, also what it passes to its base class, or to the class that it returns."""
    made: Any = constructor
    if not isinstance(constructor, type):
        with suppress(NameError):  # an annotation that only type checkers import
            made = inspect.signature(constructor, eval_str=True).return_annotation
    names = set(inspect.signature(constructor).parameters)
    for kind in made.__mro__ if isinstance(made, type) else ():
        if issubclass(kind, nn.Module) and kind is not nn.Module:
            names |= set(inspect.signature(kind.__init__).parameters)
    return names


def _monai_names(nets: Any) -> list[str]:
    return [
        name
        for name, value in vars(nets).items()
        if (isinstance(value, type) and issubclass(value, nn.Module)) or inspect.isfunction(value)
    ]


def _monai(nets: Any, network: str, classes: int, options: dict[str, Any], published: bool) -> nn.Module:
    constructor = getattr(nets, network)
    takes = _parameters(constructor)
    output = next((key for key in ("num_classes", "out_channels") if key in takes), None)
    if output is None:
        raise MirstError(f"model.name: monai:{network} takes no number of classes; name a network that classifies")
    if published and "pretrained" not in takes:
        raise MirstError(f"model.weights: monai:{network} has no pretrained weights; set random or a file")
    own = {"spatial_dims": 2, "in_channels": CHANNELS, "n_input_channels": CHANNELS, "pretrained": published}
    made: nn.Module = constructor(**{key: own[key] for key in own if key in takes}, **{output: classes}, **options)
    return made


def _timm_constructor(timm: Any, network: str) -> Callable[..., Any]:
    made: Callable[..., Any] = timm.model_entrypoint(network.partition(".")[0])
    return made


def _timm(timm: Any, network: str, classes: int, options: dict[str, Any], published: bool) -> nn.Module:
    made: nn.Module = timm.create_model(
        network, pretrained=published, in_chans=CHANNELS, num_classes=classes, **options
    )
    return made


def _timm_statistics(timm: Any, network: str, made: nn.Module) -> Statistics:
    settings: Any = made.pretrained_cfg
    return tuple(settings["mean"]), tuple(settings["std"])


def _torchvision(models: Any, network: str, classes: int, options: dict[str, Any], published: bool) -> nn.Module:
    made: nn.Module = models.get_model(network, weights=None, num_classes=classes, **options)
    if published:
        weights = models.get_model_weights(network).DEFAULT
        made.load_state_dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True), strict=False)
    return made


def _torchvision_statistics(models: Any, network: str, made: nn.Module) -> Statistics:
    shown = models.get_model_weights(network).DEFAULT.transforms()
    return tuple(shown.mean), tuple(shown.std)


_LIBRARIES = {
    "monai": Library("monai.networks.nets", _monai_names, getattr, _monai, lambda *_: (IMAGENET_MEAN, IMAGENET_STD)),
    "timm": Library("timm", lambda timm: list(timm.list_models()), _timm_constructor, _timm, _timm_statistics),
    "torchvision": Library(
        "torchvision.models",
        lambda models: list(models.list_models(module=models)),
        lambda models, network: models.get_model_builder(network),
        _torchvision,
        _torchvision_statistics,
    ),
}
"""By the first part of a model's name, which is also the extra that installs the library."""
