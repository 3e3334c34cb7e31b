"""Activations of random cells of a layer, from one pass over images, in a file from which the pass resumes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from netdissect.config import Progress
from netdissect.dissect.cost_plan import cells_of
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import ActivationError
from netdissect.models import ActivationRecorder, Layer, Network
from netdissect.paths import writing
from netdissect.training.classification_data import pixel_batches

Cells = npt.NDArray[np.float32]
STAGE, CELLS_FILE = "activations", "cells.npy"
NO_SPACE = "What was finished is kept: free space, and run the same command again."


@dataclass(frozen=True)
class TrainingImages:
    """Image files of one folder.

    Attributes
    ----------
    paths
        The files.
    as_stored
        Whether they belong to a data set, which are used as stored; others are rotated upright as EXIF says.
    """

    paths: tuple[Path, ...]
    as_stored: bool


@dataclass(frozen=True)
class CellPlan:
    """Which cells of which images are recorded.

    Attributes
    ----------
    images
        The files.
    an_image
        Cells of each.
    of_map
        Cells of the layer's map, from which they are drawn.
    seed
        Of the draw.
    batch_size
        Images in one forward pass.
    """

    images: TrainingImages
    an_image: int
    of_map: int
    seed: int
    batch_size: int

    @classmethod
    def of(cls, images: TrainingImages, layer: Layer, most: int, seed: int, batch_size: int) -> "CellPlan":
        """Draw about `most` cells, as many of each image; of too many images only some, spread evenly."""
        of_map = math.prod(cells_of(layer))
        every = -(-len(images.paths) // most)
        chosen = TrainingImages(images.paths[::every], images.as_stored)
        return cls(chosen, min(of_map, max(1, most // len(chosen.paths))), of_map, seed, batch_size)

    @property
    def cells(self) -> int:
        """Number of all cells."""
        return len(self.images.paths) * self.an_image

    def drawn(self, image: int) -> npt.NDArray[np.int64]:
        """Return which cells of an image are taken: indices into its map, row by row."""
        return np.sort(np.random.default_rng((self.seed, 0, image)).permutation(self.of_map)[: self.an_image])

    def held_out(self, share: float) -> npt.NDArray[np.bool_]:
        """Return which cells belong to held-out images, bool (cells,): at least one image, and never all."""
        count = len(self.images.paths)
        held = min(max(1, round(share * count)), count - 1)
        chosen = np.zeros(count, np.bool_)
        chosen[np.random.default_rng((self.seed, 2)).permutation(count)[:held]] = True
        return np.repeat(chosen, self.an_image)


def record_cells(
    network: Network, layer: Layer, plan: CellPlan, work: WorkDir, device: torch.device, progress: Progress | None
) -> Cells:
    """Return the activations of cells, float32 (cells, U), in the order of the images, as a file in memory.

    Parameters
    ----------
    network, layer
        What is recorded.
    plan
        Of which cells.
    work
        Holds the file, from which an interrupted pass goes on.
    device
        Of the network.
    progress
        Receives images (``activations``).

    Raises
    ------
    ActivationError
        If the layer gives NaN or infinity.
    ConceptsError
        If an image cannot be decoded.
    ResultError
        If the disk is full.
    """
    path, total = work.path / CELLS_FILE, len(plan.images.paths)
    done = int(work.load(STAGE).get("images", 0)) if path.exists() else 0
    with writing(path, NO_SPACE):
        shape = (plan.cells, layer.units)
        cells = np.lib.format.open_memmap(path, "r+" if done else "w+", np.float32, shape)

    def state() -> dict[str, npt.NDArray[Any]]:
        cells.flush()
        return {"batches": np.array(-(-done // plan.batch_size)), "images": np.array(done)}

    left = plan.images.paths[done:]
    with network.prepared(device), ActivationRecorder(network, [layer]) as record:
        for pixels in pixel_batches(left, network.preprocessing, plan.batch_size, as_stored=plan.images.as_stored):
            images = network.preprocessing.normalize(torch.from_numpy(pixels).to(device))
            maps = record(images)[layer.name].float().flatten(2).transpose(1, 2).cpu().numpy()
            _check_finite(maps, layer, plan.images.paths[done : done + len(maps)])
            for image, one in enumerate(maps, done):
                cells[image * plan.an_image : (image + 1) * plan.an_image] = one[plan.drawn(image)]
            done += len(maps)
            if progress:
                progress(STAGE, done, total)
            work.save(STAGE, state, now=done == total)
    return cells


def _check_finite(maps: Cells, layer: Layer, paths: Sequence[Path]) -> None:
    for values, path in zip(maps, paths, strict=True):
        if not math.isfinite(values.sum(dtype=np.float64)):
            raise ActivationError(
                f"layer {layer.name!r} gives NaN or infinity on {path}. A dictionary needs finite activations: check "
                "the weights and the preprocessing (mean, std)."
            )
