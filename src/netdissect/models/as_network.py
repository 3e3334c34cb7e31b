"""Make a network of whatever a user has: a name, a module, a model of timm or transformers."""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from netdissect.errors import NetworkError
from netdissect.models.load import load_network
from netdissect.models.model_zoos import not_a_name
from netdissect.models.network import Network
from netdissect.models.preprocessing import Preprocessing
from netdissect.models.preprocessing_configs import is_of_transformers, stated_preprocessing
from netdissect.models.run_module import check_module, unwrapped

IMAGENET = "netdissect.Preprocessing(size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))"


def as_network(model: Network | torch.nn.Module | str, preprocessing: object = None) -> Network:
    """Return a network, a module or the name of a network as a `Network`.

    Parameters
    ----------
    model
        A `Network`; any ``torch.nn.Module``, also of torchvision, timm or transformers; or a name, as `load_network`
        takes it.
    preprocessing
        How the input of a module is made from an image: anything that `Preprocessing.read` reads. None: known, which
        it is for models of timm, and for those of transformers whose image processor is in the folder or the cache
        from which they were loaded.

    Returns
    -------
    Network
        A module is called by its class, or by its name in timm. The module itself is used, not a copy.

    Raises
    ------
    NetworkError
        If the preprocessing is not known, cannot be read, or is given for a `Network`, which has its own; or if `model`
        is none of these.

    Examples
    --------
    >>> import torchvision
    >>> preset = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    >>> network = as_network(torchvision.models.resnet18(), preset)
    >>> network.name, network.preprocessing.size
    ('ResNet', Size(height=224, width=224))
    """
    if isinstance(model, Network):
        if preprocessing is not None:
            raise NetworkError(
                f"The network {model.name!r} has a preprocessing, and preprocessing= gives another one. Expected one "
                "of them: leave preprocessing= out, or pass the module: network.module."
            )
        return model
    if isinstance(model, str):
        return named_network(model, preprocessing)
    _check(model)
    name = _name(model)
    if preprocessing is None:
        preprocessing = stated_preprocessing(_original(model))
    if preprocessing is None:
        raise NetworkError(_unknown_preprocessing(_original(model), name))
    return Network(name, model, Preprocessing.read(preprocessing))


def named_network(spec: str, preprocessing: object = None, weights: str | None = None) -> Network:
    """Load a network by its name, and replace its preprocessing; see `load_network` and `as_network`."""
    if preprocessing is None:
        return load_network(spec, weights=weights)
    given = Preprocessing.read(preprocessing)
    if given.size.height != given.size.width:
        raise NetworkError(
            f"preprocessing= gives the network {spec!r} an input of {given.size.height} x {given.size.width} pixels. "
            "A network that is loaded by its name takes square images; pass its module: "
            f"netdissect.load_network({spec!r}).module."
        )
    return load_network(
        spec,
        weights=weights,
        size=given.size.height,
        mean=given.mean,
        std=given.std,
        interpolation=given.interpolation,
    )


def _check(model: object) -> None:
    """Refuse what is no module, with the remedy for what is often passed in its place."""
    if isinstance(model, Mapping):
        raise NetworkError(
            f"The model is a mapping of {len(model)} items, as a state_dict. Expected the module with these weights: "
            "build it, then module.load_state_dict(...)."
        )
    if isinstance(model, Path):
        raise NetworkError(f"The model is the path {model}. Expected a module or a name. {not_a_name(model)}")
    if isinstance(model, (tuple, list)):
        raise NetworkError(
            f"The model is a {type(model).__name__} of {', '.join(type(part).__name__ for part in model)}. Expected "
            "the module alone; pass its transforms as preprocessing=."
        )
    if isinstance(model, type) or (callable(model) and not isinstance(model, torch.nn.Module)):
        title = getattr(model, "__name__", type(model).__name__)
        if not title.startswith("ExportedProgram"):
            raise NetworkError(
                f"The model is {title}, a class or function. Expected a torch.nn.Module: call it, {title}(...)."
            )
    check_module(type(model).__name__, model)


def _original(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module inside DataParallel and torch.compile, which tells from which library it is."""
    inner = unwrapped(module)
    compiled = getattr(inner, "_orig_mod", None)
    return compiled if isinstance(compiled, torch.nn.Module) else inner


def _name(module: torch.nn.Module) -> str:
    module = _original(module)
    config = getattr(module, "pretrained_cfg", None)
    if isinstance(config, Mapping) and isinstance(config.get("architecture"), str):
        return f"{config['architecture']} of timm"
    return type(module).__name__


def _unknown_preprocessing(module: torch.nn.Module, name: str) -> str:
    if is_of_transformers(module):
        line = "transformers.AutoImageProcessor.from_pretrained(NAME)"
    else:
        line = _torchvision_preset(module) or IMAGENET
    return (
        f"How the input of {name} is made from an image is not known: a torch.nn.Module does not say it. Expected "
        f"preprocessing=, with what its weights were trained with, such as preprocessing={line}; it may be a "
        "netdissect.Preprocessing(size, mean, std), torchvision's weights.transforms() or Compose, a timm "
        "configuration or an image processor of transformers."
    )


def _torchvision_preset(module: torch.nn.Module) -> str | None:
    """Return the expression of a torchvision model's preset, if its number of parameters tells which model it is."""
    if not type(module).__module__.startswith("torchvision.models."):
        return None
    models = sys.modules["torchvision.models"]
    count = sum(parameter.numel() for parameter in module.parameters())
    family = sys.modules[type(module).__module__.rpartition(".")[0]]  # quantized models have as many parameters
    for name in models.list_models(module=family):
        weights = models.get_model_weights(name)
        if weights.DEFAULT.meta.get("num_params") == count:
            return f"{weights.__module__.rpartition('.')[0]}.{weights.__name__}.DEFAULT.transforms()"
    return None


def refuse_without_images(network: Network, doing: str) -> None:
    """Refuse what is no network that takes images: a generator, and stored activations.

    Parameters
    ----------
    network
        What was given.
    doing
        For what images are needed.

    Raises
    ------
    NetworkError
        If it takes none.
    """
    if not network.takes_images:
        kind = "is a generator" if network.draws else "has the activations that another program stored, and no network"
        raise NetworkError(
            f"{network.name!r} {kind}. {doing} needs a network that takes images. Expected one; for stored activations "
            "name the network that gave them."
        )
