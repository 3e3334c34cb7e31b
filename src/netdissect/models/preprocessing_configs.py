"""Find and read preprocessing configurations of timm and transformers."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from netdissect.concepts import Size
from netdissect.config import Interpolation
from netdissect.errors import NetworkError

CONFIG_FILES = ("preprocessor_config.json", "processor_config.json", "config.json")
"""Files in which transformers and timm save a preprocessing configuration, in the folder of the weights."""

RESAMPLE: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Filters by their numbers in Pillow, which transformers uses."""

READ = (
    "do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_convert_rgb", "do_pad", "do_reduce_labels",
    "do_convert_annotations", "do_split_image",
)  # fmt: skip
"""Steps of an image processor that are read, or that change no image of the input's size."""

SIMPLE = (
    "Expected an image processor that resizes, crops the center, rescales and normalizes; make a "
    "Preprocessing(size, mean, std, interpolation) of what the network needs."
)
LARGEST_INPUT = 2**24  # pixels
HALF_A_GRAY_LEVEL = 0.5 / 255


def find_config(weights: Path) -> Path | None:
    """Return the preprocessing configuration file in the folder of a checkpoint; None: there is none."""
    for name in CONFIG_FILES:
        path = weights.parent / name
        if path.is_file() and _mapping_of(_content(path)) is not None:
            return path
    return None


def is_of_transformers(module: nn.Module) -> bool:
    """Tell whether a module is a model of transformers, without importing it for the sake of another module."""
    models = sys.modules.get("transformers.modeling_utils")
    return models is not None and isinstance(module, models.PreTrainedModel)


def stated_preprocessing(module: nn.Module) -> object | None:
    """Return the configuration of timm or the image processor that belongs to a model; None: it states none.

    The image processor of a model of transformers is searched for in the folder or the cache from which the model was
    loaded, and not on the hub.

    Raises
    ------
    NetworkError
        If the model takes text beside images.
    """
    for holder in (module, getattr(module, "config", None), getattr(module, "timm_model", None)):
        config = getattr(holder, "pretrained_cfg", None)
        if isinstance(config, Mapping) and {"input_size", "mean", "std"} <= config.keys():
            return dict(config) | _built_size(module, config)
    return _image_processor(module) if is_of_transformers(module) else None


def _built_size(module: nn.Module, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input size for which a timm transformer was built: its configuration keeps that of the weights."""
    built = getattr(getattr(module, "patch_embed", None), "img_size", None)
    return {"input_size": (config["input_size"][0], *built)} if isinstance(built, tuple) else {}


def _image_processor(module: Any) -> object | None:
    if module.main_input_name != "pixel_values":
        raise NetworkError(
            f"{type(module).__name__} takes {module.main_input_name}, and images beside them. Expected its part that "
            "takes images alone: pass model.get_encoder(modality='image'), and its image processor as preprocessing=."
        )
    if not module.name_or_path:
        return None
    automatic = sys.modules["transformers"].AutoImageProcessor
    try:
        processor: object = automatic.from_pretrained(
            module.name_or_path, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError):
        return None
    return processor


def read_config(config: object) -> dict[str, Any]:
    """Return a configuration as arguments of `Preprocessing`; see `Preprocessing.read`."""
    if isinstance(config, (str, Path)):
        path = Path(config)
        if path.is_dir():
            config = find_config(path / "weights")
            if config is None:
                raise NetworkError(
                    f"The folder {path} holds no preprocessing configuration. Expected one of "
                    f"{', '.join(CONFIG_FILES)}, as timm and transformers write them."
                )
            path = config
        content, origin = _content(path), str(path)
    else:
        config = getattr(config, "image_processor", config)  # part of a processor of text and images
        to_dict = getattr(config, "to_dict", None)
        content, origin = to_dict() if callable(to_dict) else config, f"an object of type {type(config).__name__}"
    found = _mapping_of(content)
    if found is None:
        raise NetworkError(
            f"The preprocessing is {origin}, which is none. Expected a netdissect.Preprocessing(size, mean, std), "
            "torchvision's weights.transforms() or Compose, timm's configuration (input_size, mean, std, "
            "interpolation) or an image processor of transformers (size or crop_size, image_mean, image_std, resample)."
        )
    try:
        arguments = _of_timm(found) if "input_size" in found else _of_transformers(found)
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise NetworkError(
            f"The preprocessing configuration of {origin} cannot be used ({type(error).__name__}: {error}). "
            "Expected resize, center crop, rescale and normalization, as timm or transformers writes them; or make a "
            "Preprocessing(size, mean, std, interpolation)."
        ) from error
    if hasattr(config, "preprocess"):
        _check_by_running(config, arguments)
    return arguments


def _check_by_running(processor: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse an image processor that gives other values than its configuration says, on an image of a single color."""
    name, (height, width) = type(processor).__name__, arguments["size"]
    if height * width > LARGEST_INPUT:
        raise NetworkError(
            f"{name} names an input of {height:,} x {width:,} pixels. Expected the edges of one image; some processors "
            "name an area instead. Make a Preprocessing(size, mean, std, interpolation)."
        )
    color = np.array([40, 90, 200], np.uint8)
    try:
        values = processor(Image.fromarray(np.full((height, width, 3), color)), return_tensors="np")["pixel_values"]
    except Exception as error:  # whatever the processor raises
        reason = str(error).strip().partition("\n")[0]
        raise NetworkError(f"{name} fails on an image of {height} x {width} pixels ({reason}). {SIMPLE}") from error
    means, deviations = np.array(arguments["mean"]), np.array(arguments["std"])
    expected = ((color / 255 - means) / deviations)[:, None, None]
    shape = (1, 3, height, width)
    if np.shape(values) != shape or np.abs((values - expected) * deviations[:, None, None]).max() > HALF_A_GRAY_LEVEL:
        raise NetworkError(
            f"{name} does more than its size, mean and deviation say: an image of {height} x {width} pixels becomes "
            f"an array {np.shape(values)} of other values than a resized and normalized image {shape} has. {SIMPLE}"
        )


def _content(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NetworkError(
            f"The preprocessing is named {str(path)!r}, which is neither a file nor a folder. Expected a configuration "
            "of timm or transformers (preprocessor_config.json) or its folder; or make a "
            "netdissect.Preprocessing(size, mean, std)."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise NetworkError(
            f"The preprocessing configuration {path} cannot be read ({error}). Expected a JSON file of timm or "
            "transformers; restore it, or remove it and give mean, deviation and size."
        ) from error


def _mapping_of(content: object) -> Mapping[str, Any] | None:
    """Return the preprocessing part of a configuration; None: it has none."""
    if not isinstance(content, Mapping):
        return None
    for part in ("pretrained_cfg", "image_processor"):
        if isinstance(content.get(part), Mapping):
            return _mapping_of(content[part])
    timm = {"input_size", "mean", "std"} <= content.keys()
    return content if timm or {"image_mean", "image_std"} <= content.keys() else None


def _of_timm(config: Mapping[str, Any]) -> dict[str, Any]:
    _, height, width = config["input_size"]
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return {
        "size": Size(int(height), int(width)), "mean": mean, "std": std,
        "interpolation": config.get("interpolation") or "bilinear",
    }  # fmt: skip


def _of_transformers(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("do_flip_channel_order"):
        raise ValueError("it puts blue before red, which only the network's own module can do")
    other = [key for key, value in config.items() if value is True and key.startswith("do_") and key not in READ]
    cropped = config.get("crop_size") is not None and config.get("do_center_crop", True)
    size = _size(config["crop_size" if cropped else "size"])
    if config.get("do_pad") and config.get("pad_size") and _size(config["pad_size"]) != size:
        other.append("pad_size")
    if other:
        raise ValueError(f"{', '.join(other)} changes the image otherwise than by resizing")
    # The processors give (rescale * pixel - offset - mean) / std, of pixels from 0 to 255.
    rescale = float(config.get("rescale_factor") or 1 / 255) if config.get("do_rescale", True) else 1.0
    offset = 1.0 if config.get("rescale_offset") or config.get("offset") else 0.0
    mean, std = _numbers(config["image_mean"]), _numbers(config["image_std"])
    again = std if config.get("include_top") else [1.0] * len(std)  # EfficientNet's divides by the deviation twice
    if not config.get("do_normalize", True):
        mean, std = [0.0] * len(mean), [1.0] * len(std)
    resample = config.get("resample")
    return {
        "size": size,
        "mean": tuple((number + offset) / (255 * rescale) for number in mean),
        "std": tuple(number * factor / (255 * rescale) for number, factor in zip(std, again, strict=True)),
        "interpolation": "bilinear" if resample is None else RESAMPLE[int(resample)],
    }


def _numbers(value: float | Sequence[float]) -> list[float]:
    return [float(number) for number in value] if isinstance(value, Sequence) else [float(value)] * 3


def _size(size: Any) -> Size:
    if not isinstance(size, Mapping):
        height, width = (size, size) if isinstance(size, int) else size
    elif "height" in size:
        height, width = size["height"], size["width"]
    else:
        height = width = size["shortest_edge"] if "shortest_edge" in size else size["longest_edge"]
    return Size(int(height), int(width))
