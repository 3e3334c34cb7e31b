"""The network of a served run: loaded again as the run recorded it, or given by the user and compared with the run.

A given network whose digest is not that of the run (its class was moved to another module, say) is taken if its layers
have the same sizes and its activations on some images are those that the run recorded.
"""

from collections import Counter

import numpy as np

from netdissect.dissect.image_maps import Maps, image_maps, network_pixels, run_layers
from netdissect.dissect.reload import network_of, open_network_of, unrecorded_bases, why_not_loaded
from netdissect.errors import NetdissectError, NetworkError
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.thumbnails import image_path, open_as_dissected
from netdissect.models import Network
from netdissect.result import LayerResult

COMPARED_IMAGES = 4
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}
"""Largest difference of a recomputed activation, as a share of the unit's maximum."""


def network_for(run: OpenRun) -> Network:
    """Load or take the network of a run.

    Raises
    ------
    NetdissectError
        If it cannot be loaded, or is not that of the run.
    """
    reason = unavailable_reason(run)
    if reason is not None:
        raise NetworkError(reason)
    if run.network is None:
        return network_of(run.result.info)
    network = open_network_of(run.result.info, run.network)
    if network.digest != run.result.info.network.digest:
        _compare_layers(run, network)
        _compare_activations(run, network)
    return network


def unavailable_reason(run: OpenRun) -> str | None:
    """Return why a run's network cannot be loaded again, and what helps; None: there is no known reason."""
    if run.network is not None:
        return None
    info = run.result.info
    reason = why_not_loaded(info.network.source)
    bases = unrecorded_bases(info)
    if reason is None and bases:
        reason = f"the run does not record the basis of its layer {bases[0]}"
    if reason is None:
        return None
    python = "in Python netdissect.serve(run, network=module)"
    command = f"netdissect serve {run.folder} --network python:MODULE:FUNCTION, where the function returns it; "
    return (
        f"{reason[0].upper()}{reason[1:]}. Start the explorer with the network: "
        f"{'' if run.folder is None else command}{python}."
    )


def _compare_layers(run: OpenRun, network: Network) -> None:
    try:
        layers = run_layers(network, run.result.info)
    except NetdissectError as error:
        raise NetworkError(f"{network.name!r} is not the network of the run {run.name!r}: {error}") from error
    for layer, own in zip(layers, run.result.layers.values(), strict=True):
        grid = (1, 1) if layer.grid is None else tuple(layer.grid)
        if (layer.units, *grid) != (own.info.units, own.info.height, own.info.width):
            raise NetworkError(
                f"{network.name!r} is not the network of the run {run.name!r}: its layer {layer.name} has "
                f"{layer.units} units of {grid[0]} x {grid[1]} cells; the run's has {own.info.units} of "
                f"{own.info.height} x {own.info.width}. Give the network of the run."
            )


def _compare_activations(run: OpenRun, network: Network) -> None:
    """Refuse a network whose activations on some top images are not those that the run recorded."""
    info, layers = run.result.info, run.result.layers
    images = _most_named(run)
    pixels = np.stack([network_pixels(open_as_dissected(image_path(run, image)), info.network) for image in images])
    maps = image_maps(network, run_layers(network, info), pixels, info.config)
    differences = {name: _largest_difference(layer, maps[name], images) for name, layer in layers.items()}
    worst = max(differences, key=differences.__getitem__)
    if not differences[worst] <= TOLERANCE[info.config.precision]:
        raise NetworkError(
            f"{network.name!r} is not the network of the run {run.name!r}: on {len(images)} of its top images the "
            f"activations of {worst} differ from the recorded ones by up to {differences[worst]:.2g} of a unit's "
            "maximum. Give the network with the weights of the run."
        )


def _most_named(run: OpenRun) -> list[int]:
    """Return the images that are top images of most units."""
    counts = Counter(image for layer in run.result.layers.values() for image in layer.top["image_index"].to_list())
    return [image for image, _ in counts.most_common(COMPARED_IMAGES)]


def _largest_difference(layer: LayerResult, maps: Maps, images: list[int]) -> float:
    """Return the largest difference from the recorded maps of these images, as a share of the unit's maximum."""
    largest = 0.0
    rows = layer.top.filter(layer.top["image_index"].is_in(images))
    for unit, rank, image, maximum in rows.select("unit", "rank", "image_index", "max_activation").rows():
        recorded = np.asarray(layer.top_maps[unit, rank])
        difference = float(np.abs(recorded - maps[images.index(image), unit]).max())
        largest = max(largest, difference / max(abs(maximum), 1e-6))
    return largest
