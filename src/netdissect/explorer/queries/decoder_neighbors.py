"""Units of a dictionary that stand for similar activations of its layer: their decoder directions are close."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from netdissect.dissect.bases.basis_files import kept_bases, missing_bases
from netdissect.explorer.schemas import DecoderNeighbor
from netdissect.report.layer_tables import LayerTables
from netdissect.result import LayerInfo, Result

Directions = npt.NDArray[np.float32]

DECODERS = {"sae": "decoder", "nmf": "parts"}
"""Tensor of a basis of each kind that holds the direction of each unit."""
NEIGHBORS = 8


def decoder_directions(result: Result, layer: LayerInfo) -> Directions | None:
    """Read the direction of each unit of a dictionary, float32 (K, U), of length 1; None: the layer is no dictionary.

    Raises
    ------
    ResultError
        If the file of the basis is damaged.
    """
    if layer.basis_of is None or result.folder is None or missing_bases(result.folder, [layer]):
        return None
    basis = kept_bases(result.folder, [layer]).get(layer.name)
    if basis is None or basis.kind not in DECODERS:
        return None
    directions = basis.state()[DECODERS[basis.kind]].float().numpy()
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    return np.asarray(directions / np.where(lengths > 0, lengths, 1), np.float32)


def decoder_neighbors(directions: Directions | None, unit: int, tables: LayerTables) -> Sequence[DecoderNeighbor]:
    """Return the units whose directions have the largest cosine with that of a unit, the largest first."""
    if directions is None or not directions[unit].any():
        return ()
    cosines = directions @ directions[unit]
    cosines[unit] = -np.inf
    nearest = np.argsort(-cosines, kind="stable")[: min(NEIGHBORS, len(cosines) - 1)]
    labels = tables.labels.sort("unit")
    found = []
    for index in nearest.tolist():
        row = labels.row(index, named=True)
        named = None if row["dead"] else row["label"]
        url = tables.run.unit_url(tables.index, index)
        found.append(DecoderNeighbor(unit=index, label=named, iou=row["iou"], cosine=float(cosines[index]), url=url))
    return tuple(found)
