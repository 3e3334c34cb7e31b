"""The network of a finished run on single images.

    network_pixels(image, run.info.network)             the whole image, stretched to the input of the network
    image_maps(network, layers, pixels, config)         float32 (B, U, h, w) of each layer
    checked_network(result, images, network)            a network that the user gives, compared with the run
    segment_by_units(result, image)                     the image segmented by the detectors of layers

A given network whose digest is not that of the run (its class was moved to another module, say) is taken if its layers
have the same sizes and its activations on some images are those that the run recorded.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from netdissect.activations.image_batches import fit_to_input, read_image
from netdissect.concepts import Size
from netdissect.config import DissectConfig
from netdissect.dissect.devices import number_format
from netdissect.dissect.reload import network_of, open_network_of
from netdissect.errors import NetdissectError, NetworkError
from netdissect.models import ActivationRecorder, Layer, Network, Preprocessing, exact_patterns, resolve_layers
from netdissect.paths import contained
from netdissect.plots.example_images import image_folder
from netdissect.plots.image_segmentation import Segmentation, detectors, segment_image
from netdissect.plots.outlines import MaskGrid
from netdissect.result import LayerResult, NetworkInfo, Result, RunInfo

Maps = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

COMPARED_IMAGES = 4
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}
"""Largest difference of a recomputed activation, as a share of the unit's maximum."""


def run_layers(network: Network, info: RunInfo) -> tuple[Layer, ...]:
    """Return the layers of a run in its network, in the order of the run."""
    names = exact_patterns([layer.name for layer in info.layers])
    found = {layer.name: layer for layer in resolve_layers(network, names, info.config.assumed)}
    return tuple(found[layer.name] for layer in info.layers)  # a network may have its bases in another order


def run_preprocessing(network: NetworkInfo) -> Preprocessing:
    """Return the preprocessing that a run recorded."""
    return Preprocessing(Size(*network.size), network.mean, network.std, network.interpolation)


def network_pixels(image: Image.Image, network: NetworkInfo, origin: str = "the image") -> Pixels:
    """Stretch a whole image to the input size of a run's network: uint8 (C, H, W), not normalized.

    Raises
    ------
    NetworkError
        If the image does not have the number of channels that the network expects.
    """
    # A copy: of a gray image the array of Pillow, which is read-only, would be returned as it is.
    return np.array(fit_to_input(image, run_preprocessing(network), origin).transpose(2, 0, 1), order="C")


def image_maps(network: Network, layers: Sequence[Layer], pixels: Pixels, config: DissectConfig) -> dict[str, Maps]:
    """Return the activation maps of layers on images, in the number format of a run.

    Parameters
    ----------
    network
        Of the run.
    layers
        Some of its layers.
    pixels : uint8 (B, C, H, W)
        Images of the size of its input; see `network_pixels`.
    config
        Of the run.

    Returns
    -------
    dict of float32 (B, U, h, w)
        By the name of the layer.
    """
    with network.prepared():
        images = network.preprocessing.normalize(torch.from_numpy(pixels).to(network.device))
        with ActivationRecorder(network, layers) as recorder, number_format(network.device, config):
            recorded = recorder(images)
    return {name: values.float().cpu().contiguous().numpy() for name, values in recorded.items()}


def checked_network(result: Result, images: Path, network: Network | torch.nn.Module) -> Network:
    """Compare a network that the user gives with a run.

    Parameters
    ----------
    result
        The run.
    images
        Folder of the data set's images.
    network
        The network, or its module, which gets the preprocessing of the run.

    Returns
    -------
    Network
        With the virtual layers of the run.

    Raises
    ------
    NetworkError
        If preprocessing, layers, their sizes or their activations are not those of the run.
    ConceptsError
        If the digest is another one and an image that is needed cannot be read.
    """
    opened = open_network_of(result.info, network, folder=result.folder)
    if opened.digest != result.info.network.digest:
        _compare_activations(result, _checked_layers(result, opened), images, opened)
    return opened


def segment_by_units(
    result: Result,
    image: Image.Image,
    layers: Sequence[str] | None = None,
    *,
    quantile: float | None = None,
    network: Network | torch.nn.Module | None = None,
    data_root: str | Path | None = None,
) -> dict[str, Segmentation]:
    """Segment any image by the detectors of layers of a run.

    Parameters
    ----------
    result
        The run.
    image
        Any size; the whole of it is stretched to the input of the network.
    layers
        Names; None: the last layer of the network.
    quantile
        Of labels and masks; None: the run's first.
    network
        If the run cannot load its own again; see `checked_network`.
    data_root
        The data set's folder, if it has moved since the run: `network` is compared on some of its images.

    Returns
    -------
    dict of Segmentation
        By the name of the layer; see `netdissect.plots.image_segmentation.segment_image`.

    Raises
    ------
    NetdissectError
        If the run has no such layer or quantile, or its network cannot be loaded or is another one.
    """
    own = [name for name, each in result.layers.items() if each.info.basis_of is None]
    tables = {name: result.layer(name) for name in layers or own[-1:]}
    found = {name: detectors(result, name, quantile) for name in tables}
    folder = image_folder(result.info.data.root, data_root)
    if network is None:
        opened = network_of(result.info, folder=result.folder)
    else:
        opened = checked_network(result, folder, network)
    pixels = network_pixels(image, result.info.network)[None]
    recorded = [layer for layer in run_layers(opened, result.info) if layer.name in tables]
    maps = image_maps(opened, recorded, pixels, result.info.config)
    return {
        name: segment_image(maps[name][0], found[name], MaskGrid.of(result.info, layer))
        for name, layer in tables.items()
    }


def _checked_layers(result: Result, network: Network) -> tuple[Layer, ...]:
    try:
        layers = run_layers(network, result.info)
    except NetdissectError as error:
        raise NetworkError(f"{network.name!r} is not the network of the run: {error}") from error
    for layer, own in zip(layers, result.info.layers, strict=True):
        grid = (1, 1) if layer.grid is None else tuple(layer.grid)
        if (layer.units, *grid) != (own.units, own.height, own.width):
            raise NetworkError(
                f"{network.name!r} is not the network of the run: its layer {layer.name} has {layer.units} units of "
                f"{grid[0]} x {grid[1]} cells; the run's has {own.units} of {own.height} x {own.width}. Give the "
                "network of the run."
            )
    return layers


def _compare_activations(result: Result, layers: Sequence[Layer], folder: Path, network: Network) -> None:
    """Refuse a network whose activations on some top images are not those that the run recorded."""
    info, names = result.info, _most_named(result)
    paths = [contained(folder, name, "the run") for name in names.values()]
    stacked = np.stack([read_image(path, run_preprocessing(info.network)) for path in paths]).transpose(0, 3, 1, 2)
    maps = image_maps(network, layers, np.ascontiguousarray(stacked), info.config)
    differences = {name: _largest_difference(layer, maps[name], [*names]) for name, layer in result.layers.items()}
    worst = max(differences, key=differences.__getitem__)
    if not differences[worst] <= TOLERANCE[info.config.precision]:
        raise NetworkError(
            f"{network.name!r} is not the network of the run: on {len(names)} of its top images the activations of "
            f"{worst} differ from the recorded ones by up to {differences[worst]:.2g} of a unit's maximum. Give the "
            "network with the weights of the run."
        )


def _most_named(result: Result) -> dict[int, str]:
    """Return the images that are top images of most units: their file names by image index."""
    counts = Counter(
        row for layer in result.layers.values() for row in layer.top.select("image_index", "image").iter_rows()
    )
    return dict(row for row, _ in counts.most_common(COMPARED_IMAGES))


def _largest_difference(layer: LayerResult, maps: Maps, images: Sequence[int]) -> float:
    """Return the largest difference from the recorded maps of these images, as a share of the unit's maximum."""
    largest = 0.0
    rows = layer.top.filter(layer.top["image_index"].is_in(images))
    for unit, rank, image, maximum in rows.select("unit", "rank", "image_index", "max_activation").rows():
        difference = float(np.abs(np.asarray(layer.top_maps[unit, rank]) - maps[images.index(image), unit]).max())
        largest = max(largest, difference / max(abs(maximum), 1e-6))
    return largest
