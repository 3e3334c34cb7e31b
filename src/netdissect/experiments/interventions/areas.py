"""The area of each concept in what a generator draws, while units of a layer are changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.config import Progress
from netdissect.models import ActivationRecorder, Generator, Layer
from netdissect.models.surgery.layer_edits import Edit, LayerEditor, addresses, layer_editor, with_units
from netdissect.segmenters import Segmenter

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Changes:
    """A change of units in the samples of an intervention.

    Attributes
    ----------
    layer
        The layer.
    cells : int64 (N, 2)
        Row and column of the cell of each sample at which units are inserted; None: units are ablated, everywhere.
    values : float64 (U,)
        The activation that each unit gets when it is inserted.
    """

    layer: Layer
    cells: Ints | None
    values: Floats

    def edit(self, units: Sequence[int], batch: slice) -> Edit:
        """Return the change of a set of units in a batch of samples."""
        if self.cells is None:
            return partial(with_units, layer=self.layer, units=units)
        return partial(self._inserted, units=list(units), cells=self.cells[batch])

    def _inserted(self, output: Tensor, *, units: list[int], cells: Ints) -> Tensor:
        flat, where = output.flatten().clone(), addresses(output, self.layer)
        values = torch.from_numpy(self.values[units]).to(flat.device, flat.dtype)
        for image, (row, column) in enumerate(cells.tolist()):
            flat[where[image, units, row, column]] = values
        return flat.reshape(output.shape)


@dataclass(frozen=True)
class AreaMeter:
    """Measures areas in the output of a generator.

    Attributes
    ----------
    generator
        Within `Network.prepared`.
    layer
        The layer that is changed.
    segmenter
        Labels the pixels of the output.
    samples : int64 (N, 2)
        Seed and index of each.
    batch_size
        Samples in one forward pass.
    """

    generator: Generator
    layer: Layer
    segmenter: Segmenter
    samples: Tensor
    batch_size: int = 16

    @cached_property
    def editor(self) -> LayerEditor:
        """Changes the layer."""
        return layer_editor(self.generator, self.layer)

    def areas(self, changes: Changes, sets: Sequence[Sequence[int]], progress: Progress | None = None) -> Floats:
        """Return the share of the image that each concept fills, float64 (S, N, C).

        Parameters
        ----------
        changes
            What is done with units.
        sets
            Sets of units; an empty one changes nothing.
        progress
            Called with the samples done.
        """
        parts = []
        for batch in self._batches():
            edits = [changes.edit(units, batch) if units else torch.clone for units in sets]
            parts.append(np.stack([self._areas(out) for out in self.editor.outputs(self.samples[batch], edits)]))
            if progress:
                progress("interventions", min(batch.stop, len(self.samples)), len(self.samples))
        return np.concatenate(parts, axis=1)

    def mean_activations(self) -> Floats:
        """Return the mean of each unit over cells and samples, float64 (U,)."""
        total = np.zeros(self.layer.units)
        with ActivationRecorder(self.generator, [self.layer]) as record:
            for batch in self._batches():
                maps = record(self.samples[batch])[self.layer.name]
                total += maps.double().mean(dim=(2, 3)).sum(0).cpu().numpy()
        return np.asarray(total / len(self.samples))

    def _areas(self, output: object) -> Floats:
        images = self.generator.pixels(output).cpu().numpy()
        maps = self.segmenter.segment(np.ascontiguousarray(np.broadcast_to(images, (*images.shape[:3], 3))))
        counts = np.stack([_counts(channels, len(self.segmenter.labels)) for channels in maps])
        shares: Floats = counts / (maps.shape[2] * maps.shape[3])
        return shares

    def _batches(self) -> Iterator[slice]:
        for start in range(0, len(self.samples), self.batch_size):
            yield slice(start, start + self.batch_size)


def _counts(channels: npt.NDArray[np.int32], labels: int) -> Floats:
    """Return how many pixels of one image have each label; a pixel that has it in two channels counts once."""
    counts = np.zeros(labels + 1)
    for index, channel in enumerate(channels):
        repeated = (channels[:index] == channel).any(axis=0)
        counts += np.bincount(channel[~repeated], minlength=labels + 1)
    return np.asarray(counts[1:])
