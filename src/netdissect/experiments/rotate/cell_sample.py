"""Estimate bases of a layer on a sample of its cells."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from netdissect.activations import batch_starts
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution
from netdissect.config_fields import Config
from netdissect.dissect.devices import choose_device
from netdissect.dissect.forward import DissectionInputs, forward
from netdissect.models import Network, resolve_layers
from netdissect.models.dictionaries.basis import LinearBasis
from netdissect.models.dictionaries.components import (
    BasisType,
    Cells,
    component_basis,
    permutation_basis,
    sklearn_module,
)


class CellSample(Config):
    """Cells from which principal and independent components are estimated."""

    images: int = Field(500, gt=0, description="Images at most, spread evenly over the data set.")
    cells: int = Field(20_000, gt=0, description="Cells at most, in all, drawn at random.")
    iterations: int = Field(400, gt=0, description="Of FastICA at most.")
    seed: int = Field(0, ge=0, description="Of the cells, of FastICA's start and of the permutation.")


def learned_bases(
    network: Network,
    data: ConceptData,
    layer: str,
    types: Sequence[BasisType],
    sample: CellSample,
    config: DissectConfig,
) -> dict[str, LinearBasis]:
    """Estimate bases of a layer.

    Parameters
    ----------
    network, data, layer
        The layer and the images.
    types
        Which bases.
    sample
        The cells.
    config
        Of the forward pass.

    Returns
    -------
    dict of str to LinearBasis
        By type.
    """
    units = resolve_layers(network, [layer], config.assumed)[0].units
    bases: dict[str, LinearBasis] = {}
    cells = None
    if {"pca", "ica"} & set(types):
        sklearn_module("decomposition")  # before the pass over the images
        cells = sample_cells(network, data, layer, sample, config)
    for basis in types:
        if basis == "permutation" or cells is None:
            bases[basis] = permutation_basis(layer, units, sample.seed)
        else:
            bases[basis] = component_basis(layer, basis, cells, iterations=sample.iterations, seed=sample.seed)
    return bases


def sample_cells(network: Network, data: ConceptData, layer: str, sample: CellSample, config: DissectConfig) -> Cells:
    """Return activations of random cells, float32 (N, U), from one pass over a part of the images."""
    layers = resolve_layers(network, [layer], config.assumed)
    config = config.model_copy(update={"device": choose_device(config.device, network), "backend": "eager"})
    every = max(1, len(data) // sample.images)
    part = replace(data, rows=data.rows[::every][: sample.images])
    rng = np.random.default_rng(sample.seed)
    share = max(1, sample.cells // len(part))
    rows: list[Cells] = []
    starts = batch_starts(len(part), config.images_per_batch)
    for batch in forward(DissectionInputs.of(network, part, layers, config, Execution()), starts):
        maps = batch.dense(layer).flatten(2).transpose(1, 2).cpu().numpy()
        rows += [image[rng.permutation(len(image))[:share]] for image in maps]
    return np.concatenate(rows)
