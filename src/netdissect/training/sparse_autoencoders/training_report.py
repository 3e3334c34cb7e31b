"""What a trained sparse autoencoder rebuilds of cells that it was not trained on."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from netdissect.config import Progress
from netdissect.models.dictionaries.sparse_dictionary import PART_VALUES, SparseDictionary
from netdissect.training.sparse_autoencoders.layer_cells import Cells


class SaeReport(BaseModel):
    """What was trained, and how well; every field is also in the JSON of `netdissect train-sae`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str = Field(description="Name of the network.")
    layer: str = Field(description="The layer.")
    units: int = Field(description="Its units.")
    latents: int = Field(description="Latents of the dictionary.")
    images: int = Field(description="Images, held-out ones included.")
    heldout_images: int = Field(description="Images that were not trained on.")
    cells: int = Field(description="Cells of these images, held-out ones included.")
    heldout_cells: int = Field(description="Cells of the held-out images.")
    steps: int = Field(description="Training steps.")
    nmse: float = Field(description="Squared error over that of the mean of the cells, on held-out cells.")
    r2: float = Field(description="1 - nmse.")
    l0: float = Field(description="Mean number of active latents on a held-out cell.")
    dead: int = Field(description="Latents that are active on none of all cells.")
    dead_share: float = Field(description="Their share.")


class Rebuilt(NamedTuple):
    """Error and activity of a dictionary on cells."""

    nmse: float
    l0: float
    dead: int


def measure(
    dictionary: SparseDictionary, cells: Cells, held_out: npt.NDArray[np.bool_], progress: Progress | None = None
) -> Rebuilt:
    """Measure a dictionary: error and L0 on held-out cells, dead latents on all.

    Parameters
    ----------
    dictionary
        That decodes, so one of cells as they are.
    cells : float32 (N, U)
        All cells.
    held_out : bool (N,)
        Which of them were not trained on.
    progress
        Receives cells (``report``).

    Notes
    -----
    NMSE is the sum of squared errors over that of squared distances from the mean held-out cell, as in saev.
    """
    mean = cells[held_out].mean(axis=0, dtype=np.float64)
    error = variation = 0.0
    active = 0
    fired = torch.zeros(dictionary.units, dtype=torch.bool)
    size = max(1, PART_VALUES // dictionary.units)
    for start in range(0, len(cells), size):
        held, part = held_out[start : start + size], torch.from_numpy(np.array(cells[start : start + size]))
        codes = dictionary.encode_sparse(part)
        fired[codes.latent] = True
        if held.any():
            chosen = part[torch.from_numpy(held)]
            error += float((chosen.double() - dictionary.rebuild(chosen).double()).square().sum())
            variation += float((chosen.double() - torch.from_numpy(mean)).square().sum())
            active += int(held[codes.cell.numpy()].sum())
        if progress:
            progress("report", min(start + size, len(cells)), len(cells))
    count = int(held_out.sum())
    nmse = error / variation if variation else float("nan")
    return Rebuilt(nmse, active / count, int((~fired).sum()))
