"""Compare the masks of a segmenter with human masks of the same images: IoU of each concept, with intervals.

Intersection and union are summed over the images in which people annotated the category of the concept, as the IoU of
units is; human pixels without a label count as not the concept. `labeled_iou` leaves these pixels out, as benchmarks of
segmentation do.

Intervals are percentiles of a bootstrap over images with Poisson weights
(:func:`netdissect.scoring.statistics.bootstrap.poisson_weights`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Concept, ConceptData, Labels, Size
from netdissect.concepts.build.synonyms import split_names
from netdissect.concepts.image_io import read_as_stored
from netdissect.concepts.machine_masks import COMPUTED, ConceptAgreement, MaskAgreement
from netdissect.config import Progress
from netdissect.errors import SegmenterError
from netdissect.scoring.statistics.bootstrap import percentile_interval, poisson_weights
from netdissect.segmenters.segment_images import MachineLabelJob, read_maps, segment_images
from netdissect.segmenters.segmenter import Segmenter, SegmentLabel

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

REPLICATES = 1000
SEED = 0


@dataclass(frozen=True)
class MaskPixels:
    """Pixels of each image and concept, int64 (N, C); zero where the category is not annotated.

    Attributes
    ----------
    both
        Pixels of both masks.
    machine, human
        Pixels of each.
    machine_labeled
        Machine pixels that people labeled in the category.
    """

    both: Ints
    machine: Ints
    human: Ints
    machine_labeled: Ints


def compare_masks(
    data: ConceptData,
    segmenter: Segmenter,
    make_job: Callable[[Size], MachineLabelJob],
    progress: Progress | None = None,
) -> MaskAgreement:
    """Segment the images of a data set with human masks, and compare.

    Parameters
    ----------
    data
        The data set.
    segmenter
        The segmenter.
    make_job
        Function of the size of label maps that returns the job.
    progress
        Called with the number of images (``comparing``).

    Raises
    ------
    SegmenterError
        If no label of the segmenter is a concept of the data set.
    """
    pairs = matching_labels(segmenter.labels, data.concepts)
    if not pairs:
        known = ", ".join(concept.name for concept in data.concepts[:8])
        raise SegmenterError(
            f"none of the {len(segmenter.labels)} labels of {segmenter.spec} is a concept of {data.root}, which has "
            f"{known}. Expected a data set with human masks of these labels; name the labels as there with --labels "
            f"FILE."
        )
    files: dict[int, Path] = {}
    sizes: dict[Size, list[int]] = defaultdict(list)
    for row, entry in enumerate(data.rows):
        sizes[entry.size].append(row)
    for size, rows in sizes.items():
        made = segment_images([data.image_path(row) for row in rows], make_job(size), progress)
        files.update(zip(rows, made, strict=True))
    concepts = list(dict.fromkeys(pairs.values()))
    numbers = {label: concepts.index(concept) for label, concept in pairs.items()}
    return _agreement(data, segmenter, pairs, _counts(data, concepts, numbers, files, progress))


def matching_labels(labels: Sequence[SegmentLabel], concepts: Sequence[Concept]) -> dict[int, Concept]:
    """Return the concept of each label id by its name or synonyms, one of the same category if there is."""
    known: dict[str, list[Concept]] = defaultdict(list)
    for concept in concepts:
        if concept.category not in COMPUTED:
            for name in (concept.name, *concept.synonyms):
                known[name].append(concept)
    found: dict[int, Concept] = {}
    for label_id, label in enumerate(labels, start=1):
        named = [concept for name in split_names(label.name, label.category) for concept in known.get(name, ())]
        same = [concept for concept in named if concept.category == label.category]
        if named:
            found[label_id] = (same or named)[0]
    return found


def read_machine_labels(file: Path, size: Size, numbers: Mapping[int, int], count: int) -> npt.NDArray[np.bool_]:
    """Return the machine masks of an image, bool (C, h, w), by the position of the concept of each label id."""
    maps = read_maps(file, size)
    masks = np.zeros((count, *size), np.bool_)
    for label_id in np.unique(maps).tolist():
        if label_id in numbers:
            masks[numbers[label_id]] |= (maps == label_id).any(0)
    return masks


def _counts(
    data: ConceptData,
    concepts: Sequence[Concept],
    numbers: Mapping[int, int],
    files: Mapping[int, Path],
    progress: Progress | None,
) -> MaskPixels:
    shape = (len(data.rows), len(concepts))
    counts = MaskPixels(*(np.zeros(shape, np.int64) for _ in range(4)))
    for row, entry in enumerate(data.rows):
        machine = read_machine_labels(files[row], entry.size, numbers, len(concepts))
        labels = data.labels(row)
        annotated = dict(_annotated(data, labels))
        for index, concept in enumerate(concepts):
            if concept.category in annotated:
                human = _mask(labels, concept.label_id)
                counts.both[row, index] = (machine[index] & human).sum()
                counts.machine[row, index] = machine[index].sum()
                counts.human[row, index] = human.sum()
                counts.machine_labeled[row, index] = (machine[index] & annotated[concept.category]).sum()
        if progress:
            progress("comparing", row + 1, len(data.rows))
    return counts


def _annotated(data: ConceptData, labels: Labels) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield the categories that an image is annotated in, and the pixels with a label of each."""
    category_of = data.category_of
    for number, category in enumerate(data.categories):
        pixels = ((labels.label_channels > 0) & (category_of[labels.label_channels] == number)).any(0)
        whole = bool((category_of[labels.image_level] == number).any())
        if whole or pixels.any():
            yield category, np.ones_like(pixels) if whole else pixels


def _mask(labels: Labels, label_id: int) -> npt.NDArray[np.bool_]:
    pixels: npt.NDArray[np.bool_] = (labels.label_channels == label_id).any(0)
    return np.ones_like(pixels) if label_id in labels.image_level else pixels


def _agreement(
    data: ConceptData, segmenter: Segmenter, pairs: Mapping[int, Concept], counts: MaskPixels
) -> MaskAgreement:
    labels: dict[Concept, SegmentLabel] = {}
    for label_id, concept in pairs.items():
        labels.setdefault(concept, segmenter.labels[label_id - 1])
    union = counts.machine + counts.human - counts.both
    occurs = np.flatnonzero(union.sum(0))
    if not len(occurs):
        raise SegmenterError(
            f"neither {segmenter.spec} nor the human masks of {data.root} have a pixel of the {len(labels)} concepts "
            "that both name. Expected images with these concepts; compare with another data set or lower --min-score."
        )
    weights = poisson_weights(SEED, np.arange(len(data.rows)), REPLICATES).astype(np.float64).T
    samples = _ratio(weights @ counts.both[:, occurs], weights @ union[:, occurs])
    drawn = list(labels.values())
    rows = [
        _row(drawn[index], column, _of_concept(counts, index))
        for index, column in zip(occurs.tolist(), samples.T, strict=True)
    ]
    low, high = percentile_interval(np.nanmean(samples[~np.isnan(samples).all(1)], axis=1))
    unmatched = (label for label_id, label in enumerate(segmenter.labels, 1) if label_id not in pairs)
    return MaskAgreement(
        data=str(data.root.resolve()),
        data_digest=data.digest,
        images=len(data.rows),
        concepts=tuple(sorted(rows, key=lambda row: -row.iou)),
        miou=float(np.mean([row.iou for row in rows])),
        miou_ci_low=low,
        miou_ci_high=high,
        only_machine=tuple(sorted({label.concept for label in unmatched})),
        only_human=tuple(c.name for c in data.concepts if c not in labels and c.category not in COMPUTED),
    )


def _of_concept(counts: MaskPixels, index: int) -> MaskPixels:
    return MaskPixels(*(getattr(counts, field.name)[:, index] for field in fields(counts)))


def _row(label: SegmentLabel, samples: Floats, counts: MaskPixels) -> ConceptAgreement:
    both, machine, human = (int(pixels.sum()) for pixels in (counts.both, counts.machine, counts.human))
    labeled = int(counts.machine_labeled.sum()) + human - both
    low, high = percentile_interval(samples[~np.isnan(samples)])
    return ConceptAgreement(
        concept=label.concept,
        category=label.category,
        images=int(((counts.machine + counts.human) > 0).sum()),
        intersection=both,
        machine_pixels=machine,
        human_pixels=human,
        iou=both / (machine + human - both),
        iou_ci_low=low,
        iou_ci_high=high,
        labeled_iou=both / labeled if labeled else 0.0,
    )


def _ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    """Return the ratio, NaN where nothing is divided by nothing."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    ratio = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=ratio, where=bottom > 0)
    return ratio


def job_of_data(job: MachineLabelJob, size: Size) -> MachineLabelJob:
    """Return the same job for the images of a finished data set, which are read as they are stored."""
    return replace(job, size=size, read=lambda path: read_as_stored(path)[0])
