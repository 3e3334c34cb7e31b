"""The layout check of a run, on two of its own images, before its threshold pass.

    source -> responses of each layer to sixteen spots -> recorded in the run, or refused

The checks are stored, so that resumed runs and the shards of one folder check once. They are cheap to repeat and
deterministic: a file that is damaged, or of another run, is no error.
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

from netdissect.activations import Batch
from netdissect.dissect.cost_plan import cells_of
from netdissect.dissect.forward import DissectionInputs, recorded
from netdissect.dissect.generators.cell_checks import check_generator, misplaced
from netdissect.dissect.work_dir.fingerprint import bitwise_fingerprint
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.errors import LayerError
from netdissect.models import Layer, ReceptiveField
from netdissect.models.generators.generator import Generator
from netdissect.models.receptive_field.layout_check import CORRELATED, check_layout, half_pixel
from netdissect.models.receptive_field.spot_probe import IMAGES, CellResponses, make_probe
from netdissect.result import LayoutCheckInfo, RunInfo
from netdissect.result.files import write_whole

LAYOUT_FILE = "layout.json"
REASONS = {
    "outside": "cells that respond are stated {outside:.1f} steps outside the image",
    "displaced": "responses follow the spots but are {displacement[0]:+.1f} (down) and {displacement[1]:+.1f} (right) "
    "steps from them",
    "stretched": "responses move {slope[0]:.1f} (down) and {slope[1]:.1f} (right) pixels where spots move one",
    "scattered": "responses are strong in few cells but do not follow the spots",
    "diffuse": "responses are spread over the map",
    "no response": "no cell responds",
    "few cells": "the map has fewer than six cells along a side",
}


class _StoredChecks(BaseModel):
    """The content of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    layers: dict[str, LayoutCheckInfo]
    digest: str = ""

    def with_digest(self) -> "_StoredChecks":
        """Return a copy with the SHA-256 of all other fields."""
        text = self.model_copy(update={"digest": ""}).model_dump_json()
        return self.model_copy(update={"digest": hashlib.sha256(text.encode()).hexdigest()})


def with_layout_checks(source: DissectionInputs, info: RunInfo, folder: Path, log: RunLog) -> RunInfo:
    """Check the layers of a run, or read earlier checks; refuse layers that must not be dissected.

    Parameters
    ----------
    source
        Network, data and layers.
    info
        Of the run.
    folder
        Folder of the stored checks.
    log
        Receives the verdicts.

    Returns
    -------
    RunInfo
        With the check of each layer that has a feature map; unchanged if checks are switched off.

    Raises
    ------
    LayerError
        If a layer is contradicted, and ``force`` is not set.
    """
    if not source.config.layout_check:
        return info
    fingerprint = hashlib.sha256(json.dumps(bitwise_fingerprint(info), sort_keys=True).encode()).hexdigest()
    checks = _read(folder / LAYOUT_FILE, fingerprint)
    if checks is None:
        checks = check_layouts(source)
        text = _StoredChecks(fingerprint=fingerprint, layers=checks).with_digest().model_dump_json(indent=2)
        with suppress(OSError):  # a full disk stops the run later, where work would be lost
            write_whole(folder / LAYOUT_FILE, lambda file: file.write(text.encode()))
        log.event("checked layout", verdicts={name: check.verdict for name, check in checks.items()})
    if not source.config.force:
        _refuse(source, checks)
    return info.model_copy(update={"layout_checks": checks})


def check_layouts(source: DissectionInputs) -> dict[str, LayoutCheckInfo]:
    """Run the network on two images of the data with and without spots, and check each layer that has a map."""
    if isinstance(source.network, Generator):
        return check_generator(source, source.network)
    if not source.network.takes_images:
        return {}  # stored activations answer to no spots
    size = source.network.preprocessing.size
    layers = [layer for layer in source.layers if layer.grid is not None]
    if not layers:
        return {}
    probe = make_probe(_two_images(source))
    responses = {layer.name: CellResponses(probe.original) for layer in layers}
    # The first pass of a recorder runs to the end of the network: it gets the two plain images, later ones stop early.
    edges = [0, *range(IMAGES, len(probe.images), source.config.images_per_batch), len(probe.images)]
    batches = (Batch(start, probe.images[start:stop]) for start, stop in pairwise(edges))
    # With all layers, as in the passes: graphs are made for all layers of a run.
    for _batch, maps in recorded(source, batches):
        for name, of_layer in responses.items():
            of_layer.update(maps[name])
    checks = {}
    for layer in layers:
        of_layer = responses[layer.name]
        check = check_layout(of_layer.maps, stated_field(layer, source), size, probe, units=of_layer.units)
        checks[layer.name] = LayoutCheckInfo(**asdict(check))
    return checks


def stated_field(layer: Layer, source: DissectionInputs) -> ReceptiveField:
    """Return the receptive field with which a run places the cells of a layer.

    Notes
    -----
    ``original`` rounds the centers of receptive fields down to whole pixels of the segmentation, as the authors' Caffe
    code (2017) did. The check applies to the fields before rounding.
    """
    size = source.network.preprocessing.size
    if layer.field is None or source.config.protocol.anchor.startswith("half-pixel"):
        return half_pixel(cells_of(layer), size)
    return layer.field


def _two_images(source: DissectionInputs) -> npt.NDArray[np.uint8]:
    return source.images.read((0, len(source.data) // 2))


def _read(path: Path, fingerprint: str) -> dict[str, LayoutCheckInfo] | None:
    try:
        stored = _StoredChecks.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return stored.layers if stored.fingerprint == fingerprint and stored == stored.with_digest() else None


def _refuse(source: DissectionInputs, checks: Mapping[str, LayoutCheckInfo]) -> None:
    assumed = {layer.name for layer in source.layers if layer.layout is not None and layer.layout.source == "assumed"}
    refused = {
        name: check
        for name, check in checks.items()
        if check.verdict == "contradicted" or (name in assumed and check.verdict != "confirmed")
    }
    if not refused:
        return
    name, check = next(iter(refused.items()))
    if source.network.draws:
        raise misplaced(name, check, source.network.name)
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    stated = "the layout that was assumed" if name in assumed else "its receptive field"
    remedy = (
        "Assume another layout" if name in assumed else "Choose a protocol that places cells otherwise (--protocol)"
    )
    raise LayerError(
        f"the cells of layer {name!r}{more} of network {source.network.name!r} "
        f"{'are not' if check.verdict == 'contradicted' else 'could not be shown to be'} where {stated} puts them: of "
        f"spots on two images of the data, {REASONS[check.reason].format(**check.model_dump())}; responses and spots "
        f"correlate at {check.correlation[0]:.2f} (down) and {check.correlation[1]:.2f} (right). Expected at least "
        f"{CORRELATED} both ways, within {max(check.tolerance):.1f} steps and inside the image. {remedy}, leave the "
        "layer out, or dissect it as it is with --force; if its layout was traced, please report the network."
    )
