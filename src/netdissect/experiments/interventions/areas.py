"""The area of each concept in what a generator draws, while units of a layer are changed."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.activations.topk import StreamingTopK, ranks
from netdissect.config import Progress
from netdissect.counted import counted, size_text
from netdissect.dissect.cost_plan import cells_of
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.models import ActivationRecorder, Generator, Layer
from netdissect.models.surgery.layer_edits import Edit, LayerEditor, layer_editor, mixed, with_units
from netdissect.progress import show_line
from netdissect.segmenters import Segmenter
from netdissect.segmenters.segmenter import LabelMaps

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
        strengths, values = torch.zeros(self.layer.units), torch.tensor(self.values)
        strengths[list(units)] = 1
        return partial(mixed, layer=self.layer, strengths=strengths, values=values, cells=self.cells[batch])


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

    def areas(
        self,
        changes: Changes,
        sets: Sequence[Sequence[int]],
        progress: Progress | None = None,
        work: WorkDir | None = None,
    ) -> Floats:
        """Return the share of the image that each concept fills, float64 (S, N, C).

        Parameters
        ----------
        changes
            What is done with units.
        sets
            Sets of units; an empty one changes nothing.
        progress
            Called with the samples done.
        work
            Keeps the batches that are done; None: an interrupted call begins anew.
        """
        saved = work.load("areas") if work else {}
        parts, done = [saved["areas"]] if saved else [], int(saved.get("batches", 0))
        started = time.monotonic()

        def state() -> dict[str, Floats | Ints]:
            return {"batches": np.array(done), "areas": np.concatenate(parts, axis=1)}

        for batch in list(self.batches())[done:]:
            edits = [changes.edit(units, batch) if units else torch.clone for units in sets]
            parts.append(np.stack([self._areas(output) for output in self.editor.outputs(self.samples[batch], edits)]))
            if len(parts) == 1 + bool(saved):
                self._announce(len(sets), batch, time.monotonic() - started, progress)
            done += 1
            if work:
                work.save("areas", state)
            if progress:
                progress("interventions", batch.stop, len(self.samples))
        return np.concatenate(parts, axis=1)

    def any_shows(self, concept: int, progress: Progress | None = None) -> bool:
        """Tell whether a sample shows the concept of an index: most often the first batch says it."""
        for batch in self.batches():
            (output,) = self.editor.outputs(self.samples[batch], [torch.clone])
            if self._areas(output)[:, concept].any():
                return True
            if progress:
                progress("samples", batch.stop, len(self.samples))
        return False

    def _announce(self, sets: int, first: slice, seconds: float, progress: Progress | None) -> None:
        """Say what all samples take, measured on the first batch."""
        left = len(self.samples) - first.start
        memory = 8 * sets * len(self.samples) * len(self.segmenter.labels)
        show_line(
            progress,
            f"{counted(sets, 'sets')} of units in {counted(left, 'samples')}: about "
            f"{seconds * left / min(self.batch_size, left):.0f} s; their areas take {size_text(memory)} of memory, and "
            "as much of the disk while they are measured",
        )

    def mean_activations(self) -> Floats:
        """Return the mean of each unit over cells and samples, float64 (U,)."""
        total = np.zeros(self.layer.units)
        for maps in self._maps():
            total += maps.double().mean(dim=(2, 3)).sum(0).cpu().numpy()
        return np.asarray(total / len(self.samples))

    def exceeded_values(self, fraction: float) -> Floats:
        """Return the value that a fraction of the activations of each unit exceeds, float64 (U,).

        It is the (floor(fraction N) + 1)-th largest of the N cells of all samples, as thresholds of a run are.
        """
        count = len(self.samples) * prod(cells_of(self.layer))
        largest = StreamingTopK(self.layer.units, ranks(fraction, count, "exact")[0], count)
        for maps in self._maps():
            largest.update(maps.float().flatten(2).cpu().numpy())
        return np.asarray(largest.thresholds([fraction], "exact")[0], np.float64)

    def _maps(self) -> Iterator[Tensor]:
        """Yield the maps of the layer, batch after batch."""
        with ActivationRecorder(self.generator, [self.layer]) as record:
            for batch in self.batches():
                yield record(self.samples[batch])[self.layer.name]

    def label_maps(self, output: object) -> LabelMaps:
        """Return the label maps int32 (B, L, H, W) of an output of the generator."""
        images = self.generator.pixels(output).cpu().numpy()
        return self.segmenter.segment(np.ascontiguousarray(np.broadcast_to(images, (*images.shape[:3], 3))))

    def batches(self) -> Iterator[slice]:
        """Yield the samples of each batch."""
        for start in range(0, len(self.samples), self.batch_size):
            yield slice(start, min(start + self.batch_size, len(self.samples)))

    def _areas(self, output: object) -> Floats:
        return _shares(self.label_maps(output), self.segmenter)


def concept_areas(segmenter: Segmenter, images: npt.NDArray[np.uint8]) -> Floats:
    """Return the share of each image that each concept fills, float64 (B, C), of images uint8 (B, H, W, 3)."""
    return _shares(segmenter.segment(images), segmenter)


def _shares(maps: LabelMaps, segmenter: Segmenter) -> Floats:
    """Return the share of each label map, int32 (B, L, H, W), that has each label, float64 (B, C)."""
    counts = np.stack([_counts(channels, len(segmenter.labels)) for channels in maps])
    return np.asarray(counts / (maps.shape[2] * maps.shape[3]))


def _counts(channels: npt.NDArray[np.int32], labels: int) -> Floats:
    """Return how many pixels of one image have each label; a pixel that has it in two channels counts once."""
    counts = np.zeros(labels + 1)
    for index, channel in enumerate(channels):
        repeated = (channels[:index] == channel).any(axis=0)
        counts += np.bincount(channel[~repeated], minlength=labels + 1)
    return np.asarray(counts[1:])
