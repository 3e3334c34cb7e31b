"""Names of the outputs of a classifier."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from netdissect.errors import ConfigError
from netdissect.models import Network
from netdissect.synthetic import SCENE_NAMES

IMAGENET = 1000
CONFIG = "config.json"
"""Of a model of transformers, in the folder of its weights and of its exports."""


def class_names(network: Network, file: str | Path | None = None) -> tuple[str, ...] | None:
    """Return the names of a network's outputs, in order.

    Parameters
    ----------
    network
        Known are models of transformers that name their outputs (`id2label`), ONNX files in the folder of such a
        model's ``config.json``, scene networks of the synthetic data set, and networks of 1,000 outputs that are no
        ONNX files: the classes of ImageNet.
    file
        UTF-8 text, a name on each line; None: those of a known network.

    Returns
    -------
    tuple of str
        None if the network is not known.

    Raises
    ------
    ConfigError
        If the file cannot be read, or the ``config.json`` of an ONNX file holds no names in place of them.
    """
    if file is not None:
        try:
            lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{file} cannot be read as a list of classes ({error}). Expected UTF-8 text, the name of one output of "
                "the network on each line, in order."
            ) from error
        return tuple(line.strip() for line in lines if line.strip())
    own = getattr(getattr(network.module, "config", None), "id2label", None) or _names_in_folder(network)
    if own and any(name != f"LABEL_{index}" for index, name in own.items()):  # as transformers numbers them
        return None if _unnamed(own) else tuple(own[index] for index in sorted(own))
    linear = [module for module in network.module.modules() if isinstance(module, nn.Linear)]
    outputs = linear[-1].out_features if linear else 0
    if isinstance(getattr(network.module, "scene", None), nn.Linear) and outputs == len(SCENE_NAMES):
        return SCENE_NAMES
    return _imagenet_classes() if outputs == IMAGENET else None


def _imagenet_classes() -> tuple[str, ...]:
    from torchvision.models import ResNet50_Weights  # importing it takes as long as torch itself

    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])


def _names_in_folder(network: Network) -> Mapping[int, str]:
    """Return the names in the configuration of the model that was exported to an ONNX file; empty: there is none."""
    kind, _, file = ("" if network.source is None else network.source.spec).partition(":")
    path = Path(file).parent / CONFIG
    if kind != "onnx" or not path.is_file():
        return {}
    try:
        content: Any = json.loads(path.read_bytes())
        named: Any = content.get("id2label") or {}
        names = {int(index): str(name) for index, name in named.items()}
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise _no_names(path, str(error)) from error
    if unnamed := _unnamed(names):
        raise _no_names(path, f"'id2label' has {len(names)} names, but none of output {min(unnamed)}")
    return names


def _no_names(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{path} cannot be read as the configuration of a model ({reason}). Expected the one of transformers, whose "
        "'id2label' names the outputs by their indices; correct or remove it."
    )


def _unnamed(names: Mapping[int, str]) -> set[int]:
    """Return outputs without a name among as many as there are names: after a gap each name would be another's."""
    return set(range(len(names))) - names.keys()
