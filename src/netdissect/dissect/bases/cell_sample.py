"""Activations of random cells of some layers, from one pass over some of the images."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from netdissect.activations import batch_starts
from netdissect.config import Progress
from netdissect.dissect.forward import DissectionInputs, forward

Cells = npt.NDArray[np.float32]
MOST_VALUES = 2**26
"""Of the cells of a layer: 256 MB."""


def sample_cells(source: DissectionInputs, progress: Progress | None = None) -> Mapping[str, Cells]:
    """Return activations of random cells, float32 (N, U), of each layer.

    Parameters
    ----------
    source
        Layers, data and configuration; its `basis_fit` says how many images and cells.
    progress
        Called with the stage ``bases`` and the number of images done and in all.
    """
    fit, data = source.config.basis_fit, source.data
    every = max(1, len(data) // fit.images)
    part = replace(data, rows=data.rows[::every][: fit.images])
    unpacked = source.execution.model_copy(update={"image_cache": False})  # a part is not worth a pack of its own
    sampled = DissectionInputs.of(source.network, part, source.layers, source.config, unpacked)
    sampled = sampled.with_config(backend="eager")
    draws = {layer.name: np.random.default_rng(fit.seed) for layer in source.layers}
    shares = {layer.name: max(1, min(fit.cells, MOST_VALUES // layer.units) // len(part)) for layer in source.layers}
    rows: dict[str, list[Cells]] = {layer.name: [] for layer in source.layers}
    for batch in forward(sampled, batch_starts(len(part), source.config.images_per_batch)):
        for name in rows:
            cells = batch.dense(name).flatten(2).transpose(1, 2).cpu().numpy()
            rows[name] += [image[draws[name].permutation(len(image))[: shares[name]]] for image in cells]
        if progress is not None:
            progress("bases", batch.start + len(batch.rows), len(part))
    return {name: np.concatenate(of_layer) for name, of_layer in rows.items()}
