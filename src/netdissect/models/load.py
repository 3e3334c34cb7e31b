"""Load a network by its name.

    torchvision:resnet18            torchvision's, with its own weights
    timm:resnet18.a1_in1k           timm's (extra "timm")
    transformers:facebook/dinov2-small   a model of the Hugging Face hub, or a folder of it (extra "transformers")
    efficientnet_lite0              also 1 and 2; weights from an installed package (extra "offline")
    python:package.module:factory   what the factory returns: (module, Preprocessing), (module, latent sampler) of a
                                    generator, or a Network
    onnx:FILE                       the graph of a file (extra "onnx")
    activations:DIR                 activations that another program stored: no network
    FILE.safetensors                a network that an experiment or the demo trained; its metadata say how it is built

Size, mean, standard deviation and interpolation come with the network and can be overridden. A preset's resize-and-crop
is never applied: label maps cover the whole image, so the whole image is stretched to the input size.
"""

import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from netdissect.concepts import Size
from netdissect.config import Interpolation, NetworkSource
from netdissect.errors import ConfigError, NetworkError
from netdissect.models.checkpoint_file import read_states
from netdissect.models.checkpoints import checkpoint_classes, load_checkpoint, load_weights
from netdissect.models.factory import build_from_factory, reset_parameters
from netdissect.models.generators.generator import Generator, checked
from netdissect.models.generators.latents import LatentInput
from netdissect.models.model_zoos import LITE_SIZES, ZOOS, Built, LoadRequest, efficientnet_lite, unknown_spec
from netdissect.models.network import Network
from netdissect.models.onnx_files.load_onnx import load_onnx
from netdissect.models.preprocessing import Preprocessing, one_a_channel
from netdissect.models.preprocessing_configs import find_config
from netdissect.models.stored_activations.stored_network import load_stored

logger = logging.getLogger(__name__)

RANDOM = "none"
TRANSFORMERS = "transformers:"
ONNX = "onnx:"
ACTIVATIONS = "activations:"
BEFORE_PATHS = (TRANSFORMERS, ONNX, ACTIVATIONS)
"""What stands before the path of a file or folder."""
SAFETENSORS = ".safetensors"
# Named, not imported: this room is read before that one.
TRAINED_LOADER = "netdissect.training.load_trained"


@dataclass(frozen=True, slots=True)
class CheckpointChoice:
    """A checkpoint, and which of its sets of weights; None: the only one that fits."""

    path: Path
    state_dict: str | None


def load_network(
    spec: str,
    *,
    weights: str | None = None,
    state_dict: str | None = None,
    weights_seed: int = 0,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: Interpolation | None = None,
) -> Network:
    """Load a network by its name.

    Parameters
    ----------
    spec
        ``torchvision:NAME``, ``timm:NAME``, ``transformers:NAME`` (also a folder), ``efficientnet_lite0|1|2``,
        ``python:package.module:factory``, ``onnx:FILE``, ``activations:DIR`` or the ``.safetensors`` file of a network
        that an experiment trained.
    weights
        None: the network's own. ``none``: a random initialization. Otherwise a checkpoint file; if it was
        trained for another number of classes, the network is built with that many.
    state_dict
        Which set of weights of a checkpoint that holds several; see `netdissect.models.load_checkpoint`.
    weights_seed
        Of the random initialization; also set while a factory runs. The global generator is not changed.
    size, mean, std, interpolation
        Override the preprocessing: input pixels (square), numbers on the scale 0..1, and the filter with which
        images are stretched. A configuration file in the folder of a checkpoint (timm's ``config.json``, transformers'
        ``preprocessor_config.json``) takes precedence over the preset of the network's name.

    Returns
    -------
    Network
        On the CPU, called `spec`, in evaluation mode and without gradients.

    Raises
    ------
    NetworkError
        If there is no such network, its own weights cannot be loaded, or a factory fails.
    CheckpointError
        If the checkpoint cannot be used.
    ConfigError
        If options would change the weights or the preprocessing of a network that an experiment trained.

    Examples
    --------
    >>> network = load_network("torchvision:squeezenet1_1", weights="none", weights_seed=1)
    >>> network.preprocessing.size
    Size(height=224, width=224)
    """
    _check_arguments(spec, weights, size)
    if spec.endswith(SAFETENSORS):
        options = {"state_dict": state_dict, "size": size, "mean": mean, "std": std, "interpolation": interpolation}
        return _trained(spec, weights, weights_seed, [name for name, value in options.items() if value is not None])
    file = None if weights is None or weights == RANDOM else CheckpointChoice(Path(weights), state_dict)
    if state_dict is not None and file is None:
        raise NetworkError(
            f"--state-dict chooses the weights {state_dict!r} of a checkpoint, but no checkpoint was named. Expected "
            "--weights FILE, too."
        )
    for prefix in BEFORE_PATHS:
        if spec.startswith(prefix) and Path(spec.removeprefix(prefix)).exists():
            spec = prefix + str(Path(spec.removeprefix(prefix)).resolve())  # the run is repeated from elsewhere
    given: dict[str, Any] = {
        "mean": None if mean is None else one_a_channel("mean", mean),
        "std": None if std is None else one_a_channel("std", std),
        "interpolation": interpolation,
    }
    if spec.startswith(ACTIVATIONS):
        options = {"weights": weights, "state_dict": state_dict, "weights_seed": weights_seed, "size": size}
        stored = NetworkSource(spec=spec, **options, **given)
        return load_stored(Path(spec.removeprefix(ACTIVATIONS)), _title(stored), stored)
    with _seeded(weights_seed):
        if spec.startswith(ONNX):
            module, preprocessing = _from_onnx(spec, weights, size, given)
        else:
            module, preprocessing = _build(spec, weights, size, file)
    weights = weights if file is None else str(file.path.resolve())
    origin = NetworkSource(
        spec=spec, weights=weights, state_dict=state_dict, weights_seed=weights_seed, size=size, **given
    )
    changes = given | {"size": None if size is None else Size(size, size)}
    preprocessing = replace(preprocessing, **{name: value for name, value in changes.items() if value is not None})
    module.eval().requires_grad_(False)
    if isinstance(preprocessing, LatentInput):
        return _generator(_title(origin), module, preprocessing, origin)
    return Network(_title(origin), module, preprocessing, source=origin)


def _generator(name: str, module: torch.nn.Module, latents: LatentInput, source: NetworkSource) -> Generator:
    if source.size is not None or source.interpolation is not None:
        raise ConfigError(
            f"{name} is a generator, which takes no images, but an input size or an interpolation was given. Leave it "
            "out; --mean and --std say how its output becomes pixels."
        )
    return checked(Generator(name, module, latents, source=source))


def _trained(spec: str, weights: str | None, weights_seed: int, changes: Sequence[str]) -> Network:
    """Load the file of a network that an experiment trained: the room of the experiments' networks builds it."""
    refused = [*changes, *(["weights"] if weights not in (None, RANDOM) else [])]
    if refused:
        raise ConfigError(
            f"the network of {spec} was trained by an experiment and has its weights and preprocessing, but "
            f"{' and '.join(sorted(refused))} would change them. Leave these options out."
        )
    load = importlib.import_module(TRAINED_LOADER).trained_network
    network: Network = load(spec, None if weights is None else weights_seed)
    network.module.eval().requires_grad_(False)
    return network


def _check_arguments(spec: object, weights: object, size: object) -> None:
    """Refuse arguments of another type, as other libraries take them."""
    if not isinstance(spec, str):
        raise NetworkError(
            f"The name of the network is a {type(spec).__name__}. Expected text, such as 'torchvision:resnet18'; "
            "netdissect.as_network(module, preprocessing) makes a network of a torch.nn.Module."
        )
    if weights is not None and not isinstance(weights, (str, Path)):
        raise NetworkError(
            f"The weights are {weights!r}. Expected None for those of the network's name, 'none' for random ones, or a "
            "checkpoint file."
        )
    if size is not None and not (type(size) is int and size > 0):
        raise NetworkError(
            f"The input size is {size!r} pixels. Expected a whole number above 0: the side of the square input of a "
            "network that is loaded by its name."
        )


def reload_network(source: NetworkSource) -> Network:
    """Load a network again from the ``info.network.source`` of a run; see `load_network`."""
    return load_network(**source.model_dump())


def _build(spec: str, weights: str | None, size: int | None, file: CheckpointChoice | None) -> Built:
    source, _, name = spec.partition(":")
    if source == "python":
        return _from_factory(spec, weights, file)
    if spec in LITE_SIZES:
        return _with_weights(efficientnet_lite, LoadRequest(spec, weights is None, size), file)
    if source in ZOOS and name:
        return _with_weights(ZOOS[source], LoadRequest(name, weights is None, size), file)
    raise NetworkError(unknown_spec(spec))


def _from_onnx(spec: str, weights: str | None, size: int | None, given: dict[str, Any]) -> Built:
    if weights is not None:
        raise NetworkError(
            f"The weights {weights!r} are given for {spec}, but an ONNX file holds its weights. Leave them out; for "
            "other weights load the network from which it was exported."
        )
    return load_onnx(Path(spec.removeprefix(ONNX)), size, given["mean"], given["std"])


def _title(source: NetworkSource) -> str:
    """Return a name of a network that distinguishes two results of one architecture."""
    spec = source.spec
    for prefix in BEFORE_PATHS:
        if spec.startswith(prefix) and Path(spec.removeprefix(prefix)).is_absolute():
            spec = prefix + Path(spec).name
    if source.weights is None:
        return spec
    if source.weights == RANDOM:
        return f"{spec}, random weights of seed {source.weights_seed}"
    state_dict = "" if source.state_dict is None else f"{source.state_dict} "
    return f"{spec}, weights {state_dict}of {Path(source.weights).name}"


def _with_weights(build: Callable[[LoadRequest], Built], request: LoadRequest, file: CheckpointChoice | None) -> Built:
    if file is None:
        return build(request)
    states, own = read_states(file.path), _own_preprocessing(file.path)
    auxiliary = any("aux_classifier." in name for state in states.values() for name in state)
    size = own.size.height if request.size is None and own is not None else request.size
    request = replace(request, file=file.path, auxiliary=auxiliary, size=size)
    module, preprocessing = build(request)
    classes = checkpoint_classes(module, states, file.state_dict)
    if classes is not None:
        module, preprocessing = build(replace(request, classes=classes))
    load_weights(module, file.path, states, file.state_dict)
    return module, own or preprocessing


def _own_preprocessing(weights: Path) -> Preprocessing | None:
    """Read the preprocessing configuration in the folder of a checkpoint; None: there is none."""
    path = find_config(weights)
    if path is None:
        return None
    found = Preprocessing.read(path)
    logger.info("preprocessing of %s: %s", weights, path)
    return found


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    # Networks are built on the CPU: torch.manual_seed would also reseed the GPUs, which nothing restores.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _from_factory(spec: str, weights: str | None, file: CheckpointChoice | None) -> Built:
    module, preprocessing = build_from_factory(spec)
    if weights == RANDOM:
        reset_parameters(module, spec)
    elif file is not None:
        load_checkpoint(module, file.path, file.state_dict)
    return module, preprocessing
