"""The layout check of a run, on two of its own images, before its first look.

    source -> what sixteen spots say of each layer -> recorded, or refused

What was found is kept, so that resumed runs and the shards of one folder check once. It is cheap to find again and
always the same: a file that is damaged, or of another run, is no error.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from netdissect.activations import Batch, read_images
from netdissect.dissect.cost_plan import cells_of
from netdissect.dissect.forward import DissectionInputs, recorded
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.errors import LayerError
from netdissect.models import Layer, ReceptiveField
from netdissect.models.receptive_field.layout_check import CORRELATED, check_layout, half_pixel
from netdissect.models.receptive_field.spot_probe import IMAGES, CellResponses, make_probe
from netdissect.result import LayoutCheckInfo, RunInfo
from netdissect.result.files import write_whole

LAYOUT_FILE = "layout.json"
SEEN = {
    "outside": "cells that respond are stated {outside:.1f} steps outside the image",
    "displaced": "responses follow the spots but are {displacement[0]:+.1f} (down) and {displacement[1]:+.1f} (right) "
    "steps from them",
    "stretched": "responses move {slope[0]:.1f} (down) and {slope[1]:.1f} (right) pixels where spots move one",
    "scattered": "responses are strong in few cells but do not follow the spots",
    "diffuse": "responses are spread over the map",
    "no response": "no cell responds",
    "few cells": "the map has fewer than six cells along a side",
}


class _Kept(BaseModel):
    """What the file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_by: str
    layers: dict[str, LayoutCheckInfo]
    digest: str = ""

    def sealed(self) -> "_Kept":
        """Return the same with the SHA-256 of all but itself."""
        text = self.model_copy(update={"digest": ""}).model_dump_json()
        return self.model_copy(update={"digest": hashlib.sha256(text.encode()).hexdigest()})


def with_layout_checks(source: DissectionInputs, info: RunInfo, folder: Path, log: RunLog) -> RunInfo:
    """Check the layers of a run, or read what was found before; refuse those that must not be dissected.

    Parameters
    ----------
    source
        Network, data and layers.
    info
        Of the run.
    folder
        Where what was found is kept.
    log
        Told of the verdicts.

    Returns
    -------
    RunInfo
        With what was found of each layer that has a feature map; as it is where no check was wanted.

    Raises
    ------
    LayerError
        If a layer is contradicted, and ``force`` is not set.
    """
    if not source.config.layout_check:
        return info
    made_by = hashlib.sha256(json.dumps(bitwise_fingerprint(info), sort_keys=True).encode()).hexdigest()
    found = _read(folder / LAYOUT_FILE, made_by)
    if found is None:
        found = check_layouts(source)
        text = _Kept(made_by=made_by, layers=found).sealed().model_dump_json(indent=2)
        with suppress(OSError):  # a full disk will stop the run where something is lost by it
            write_whole(folder / LAYOUT_FILE, lambda file: file.write(text.encode()))
        log.event("checked layout", verdicts={name: check.verdict for name, check in found.items()})
    if not source.config.force:
        _refuse(source, found)
    return info.model_copy(update={"layout_checks": found})


def check_layouts(source: DissectionInputs) -> dict[str, LayoutCheckInfo]:
    """Show the network two images of the data with and without spots, and judge each layer that has a map."""
    size = source.network.preprocessing.size
    layers = [layer for layer in source.layers if layer.grid is not None]
    if not layers:
        return {}
    probe = make_probe(_two_images(source))
    responses = {layer.name: CellResponses(probe.original) for layer in layers}
    # A recorder's first pass runs to the network's end: it takes the two plain images, and the spots a shorter one.
    edges = [0, *range(IMAGES, len(probe.images), source.config.batch_size), len(probe.images)]
    batches = (Batch(start, probe.images[start:stop]) for start, stop in pairwise(edges))
    for _batch, maps in recorded(source._replace(layers=layers), batches):
        for name, of_layer in maps.items():
            responses[name].update(of_layer)
    checks = {}
    for layer in layers:
        seen = responses[layer.name]
        check = check_layout(seen.maps, stated(layer, source), size, probe, units=seen.units)
        checks[layer.name] = LayoutCheckInfo(**asdict(check))
    return checks


def stated(layer: Layer, source: DissectionInputs) -> ReceptiveField:
    """Return where a run will take the cells of a layer to lie.

    Notes
    -----
    ``original`` rounds the centers of receptive fields down to whole pixels of the segmentation, as the first program
    did: that is a definition, and the fields that it rounds are what is checked.
    """
    size = source.network.preprocessing.size
    if layer.field is None or source.config.protocol.anchor.startswith("half-pixel"):
        return half_pixel(cells_of(layer), size)
    return layer.field


def _two_images(source: DissectionInputs) -> npt.NDArray[np.uint8]:
    preprocessing, data = source.network.preprocessing, source.data
    return read_images(data, (0, len(data) // 2), preprocessing)


def _read(path: Path, made_by: str) -> dict[str, LayoutCheckInfo] | None:
    try:
        kept = _Kept.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return kept.layers if kept.made_by == made_by and kept == kept.sealed() else None


def _refuse(source: DissectionInputs, found: Mapping[str, LayoutCheckInfo]) -> None:
    assumed = {layer.name for layer in source.layers if layer.layout is not None and layer.layout.source == "assumed"}
    refused = {
        name: check
        for name, check in found.items()
        if check.verdict == "contradicted" or (name in assumed and check.verdict != "confirmed")
    }
    if not refused:
        return
    name, check = next(iter(refused.items()))
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    stated = "the layout that was assumed" if name in assumed else "its receptive field"
    remedy = (
        "Assume another layout" if name in assumed else "Choose a protocol that places cells otherwise (--protocol)"
    )
    raise LayerError(
        f"the cells of layer {name!r}{more} of network {source.network.name!r} "
        f"{'are not' if check.verdict == 'contradicted' else 'could not be shown to be'} where {stated} puts them: of "
        f"spots on two images of the data, {SEEN[check.reason].format(**check.model_dump())}; responses and spots "
        f"correlate at {check.correlation[0]:.2f} (down) and {check.correlation[1]:.2f} (right). Expected at least "
        f"{CORRELATED} both ways, within {max(check.tolerance):.1f} steps and inside the image. {remedy}, leave the "
        "layer out, or dissect it as it is with --force; if its layout was traced, please report the network."
    )
