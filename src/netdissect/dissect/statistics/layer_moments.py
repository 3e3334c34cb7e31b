"""What a run with moments keeps of one layer over the whole range of activation, not of its masks alone.

threshold pass   dense maps, labels -> LayerMoments.update -> means of each image, sums over cells
tables           LayerMoments -> moment_tables.py
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.image_values import ImageValues, mean_values
from netdissect.concepts import ConceptData
from netdissect.dissect.cost_plan import LayerPlan
from netdissect.scoring import ImageLabels
from netdissect.scoring.cell_moments import CellMoments

Maps = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class LayerMoments:
    """The moments of one layer.

    Attributes
    ----------
    means
        Mean activation of each unit on each image: of each shard, by ascending image index.
    cells
        Sums over the cells of all images.
    """

    means: tuple[ImageValues, ...]
    cells: CellMoments

    @classmethod
    def at(cls, file: Path, units: int, data: ConceptData) -> Self:
        """Return the moments of no images; means go to a file."""
        return cls((ImageValues(file, units),), CellMoments.zeros(units, data))

    def update(
        self, maps: Maps, images: Sequence[ImageLabels], held_out: npt.NDArray[np.bool_], plan: LayerPlan
    ) -> None:
        """Add one batch of images; both engines give the same moments, because they are computed on the host.

        Parameters
        ----------
        maps
            float32 (B, U, h, w).
        images
            Labels of each image.
        held_out
            bool (B,): whether an image is held out.
        plan
            Of the layer.
        """
        self.means[0].append(mean_values(maps))
        for of_image, image, is_held_out in zip(maps, images, held_out, strict=True):
            self.cells.update(of_image, image, plan.grid_to(image.size), held_out=bool(is_held_out))

    def state(self) -> Arrays:
        """Return the arrays of a checkpoint; the file of means is synced first."""
        self.means[0].sync()
        return {"means.offsets": np.array(self.means[0].offsets)} | vars(self.cells)

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore a `state`."""
        self.means[0].truncate(arrays["means.offsets"].tolist())
        for name, sums in vars(self.cells).items():
            sums[:] = arrays[name]
