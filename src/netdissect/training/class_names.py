"""Names of the outputs of a classifier."""

from pathlib import Path

from torch import nn

from netdissect.errors import ConfigError
from netdissect.models import Network
from netdissect.synthetic import SCENE_NAMES

IMAGENET = 1000


def class_names(network: Network, file: str | Path | None = None) -> tuple[str, ...] | None:
    """Return the names of a network's outputs, in order.

    Parameters
    ----------
    network
        Known are models of transformers that name their outputs (`id2label`), scene networks of the synthetic data
        set, and networks of 1,000 outputs: the classes of ImageNet.
    file
        UTF-8 text, a name on each line; None: those of a known network.

    Returns
    -------
    tuple of str
        None if the network is not known.

    Raises
    ------
    ConfigError
        If the file cannot be read.
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
    own = getattr(getattr(network.module, "config", None), "id2label", None)
    if own and any(name != f"LABEL_{index}" for index, name in own.items()):  # as transformers numbers them
        return tuple(own[index] for index in sorted(own))
    linear = [module for module in network.module.modules() if isinstance(module, nn.Linear)]
    outputs = linear[-1].out_features if linear else 0
    if isinstance(getattr(network.module, "scene", None), nn.Linear) and outputs == len(SCENE_NAMES):
        return SCENE_NAMES
    return _imagenet_classes() if outputs == IMAGENET else None


def _imagenet_classes() -> tuple[str, ...]:
    from torchvision.models import ResNet50_Weights  # importing it takes as long as torch itself

    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])
