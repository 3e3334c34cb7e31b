"""Load the network of an ONNX file."""

from collections.abc import Sequence
from pathlib import Path

from netdissect.concepts import Size
from netdissect.errors import NetworkError
from netdissect.models.onnx_files.model_file import ImageInput, read_model
from netdissect.models.onnx_files.onnx_module import OnnxModule
from netdissect.models.onnx_files.runtime import refuse_newer_format
from netdissect.models.preprocessing import Preprocessing
from netdissect.models.preprocessing_configs import find_config

CHECKED_IMAGES = 2


def load_onnx(
    path: Path, size: int | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[OnnxModule, Preprocessing]:
    """Load an ONNX file.

    Parameters
    ----------
    path
        Of the file.
    size, mean, std
        Of its input, where they were given; otherwise they are read from a ``preprocessor_config.json`` beside it.

    Returns
    -------
    tuple of OnnxModule and Preprocessing
        Each operation was compared with ONNX Runtime on two images of noise.

    Raises
    ------
    NetworkError
        If the file cannot be used, or it is not known how its input is made from an image.
    MissingExtraError
        If onnx or onnxruntime is not installed.
    """
    file = read_model(path)
    refuse_newer_format(file.model, path)
    preprocessing = _preprocessing(path, file.image, size, mean, std)
    module = OnnxModule(file)
    module.check(preprocessing.normalize(preprocessing.noise(CHECKED_IMAGES)))
    return module, preprocessing


def _preprocessing(
    path: Path, image: ImageInput, size: int | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Preprocessing:
    config = find_config(path)
    own = None if config is None else Preprocessing.read(config)
    if own is None and (mean is None or std is None):
        missing = "--mean and --std" if mean is None and std is None else "--mean" if mean is None else "--std"
        raise NetworkError(
            f"How the input of {path} is made from an image is not known: an ONNX file does not say it. Expected "
            f"{missing}, as in training; for most networks trained on ImageNet it was --mean 0.485,0.456,0.406 --std "
            "0.229,0.224,0.225. A preprocessor_config.json of transformers beside the file says it, too."
        )
    found = Preprocessing(
        _size(path, image, size, own),
        own.mean if own is not None and mean is None else tuple(mean or ()),
        own.std if own is not None and std is None else tuple(std or ()),
        "bilinear" if own is None else own.interpolation,
    )
    if found.channels != image.channels:
        raise NetworkError(
            f"The graph of {path} takes images of {image.channels} channels, and mean and standard deviation are given "
            f"for {found.channels}. Expected one of each for each channel."
        )
    return found


def _size(path: Path, image: ImageInput, size: int | None, own: Preprocessing | None) -> Size:
    """Return the size of the input: that of the graph, or else the one that was given, or that of the configuration."""
    asked = Size(size, size) if size is not None else own.size if own is not None else None
    fixed = (image.height, image.width)
    if asked is None and None in fixed:
        raise NetworkError(
            f"The graph of {path} takes images of any size. Expected --input-size, the one for which it was trained."
        )
    found = Size(*(stated or (asked or (0, 0))[index] for index, stated in enumerate(fixed)))
    if size is not None and found != asked:
        raise NetworkError(
            f"The graph of {path} takes images of {found.height} x {found.width} pixels, and --input-size is {size}. "
            "Leave it out, or export the network for that size."
        )
    return found
