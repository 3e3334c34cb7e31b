"""Segmenters of the user's own: ``python:package.module:factory``.

The factory returns an object with

    labels            names, or pairs (name, category), of the label ids 1, 2, ...
    segment(images)   uint8 (B, H, W, 3) -> integers (B, L, h, w); 0 is unlabeled
    module            optional: a differentiable module of scores, see `netdissect.segmenters.Segmenter`
"""

import hashlib
import json
from typing import Any

import numpy as np
from torch import nn

from netdissect.concepts import Size
from netdissect.concepts.build.synonyms import split_names
from netdissect.concepts.build.write_options import CATEGORY_SPELLING
from netdissect.errors import SegmenterError
from netdissect.models.factory import call_factory
from netdissect.models.network import module_digest
from netdissect.segmenters.label_tables import LARGEST_CLASS, ClassLabels
from netdissect.segmenters.segmenter import Images, LabelMaps, Segmenter, SegmenterOptions, SegmentLabel

EXPECTED = (
    "an object with labels (names, or pairs of name and category) and segment(images), which returns label ids of the "
    "shape (batch, channels, height, width)"
)


def load(spec: str, _: str, options: SegmenterOptions) -> Segmenter:
    """Call a factory; see `load_segmenter`."""
    if options.labels is not None or options.min_score is not None:
        given = "--labels" if options.labels is not None else "--min-score"
        raise SegmenterError(f"the segmenter {spec!r} decides itself on its labels. Expected no {given}; remove it.")
    made: Any = call_factory(spec, "segmenter", EXPECTED)
    labels = _labels(spec, getattr(made, "labels", None))
    if not callable(getattr(made, "segment", None)):
        raise SegmenterError(
            f"the factory of {spec!r} returned a {type(made).__name__} without segment. Expected {EXPECTED}."
        )
    everything = ClassLabels(labels, tuple(range(len(labels) + 1)))
    classes = everything.keep_words(spec, options.words)
    module = getattr(made, "module", None)
    return Segmenter(
        spec=spec,
        labels=classes.labels,
        digest=_digest(spec, classes, module),
        label_maps=lambda images, size: _maps(spec, made, images, size, classes),
        module=module if options.words is None else None,
    )


def _labels(spec: str, given: object) -> tuple[SegmentLabel, ...]:
    named = given if isinstance(given, (list, tuple)) else ()
    pairs = [
        (one, "object") if isinstance(one, str) else tuple(one) if isinstance(one, (list, tuple)) else ()
        for one in named
    ]
    if not pairs or not all(map(_is_label, pairs)) or len({*pairs}) < len(pairs) or len(pairs) > LARGEST_CLASS:
        raise SegmenterError(
            f"the segmenter {spec!r} has the labels {str(given)[:80]}. Expected names of its labels: a list "
            "of names, or of pairs of name and category (lower-case letters, digits and underscores), each once and at "
            f"most {LARGEST_CLASS}."
        )
    return tuple(SegmentLabel(*pair) for pair in pairs)


def _is_label(pair: tuple[Any, ...]) -> bool:
    """Tell whether a pair is a name that a data set can have, and a category."""
    if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        return False
    return bool(split_names(*pair)) and bool(CATEGORY_SPELLING.fullmatch(pair[1]))


def _digest(spec: str, classes: ClassLabels, module: object) -> str:
    """Return a digest of the specification, the labels and its module, if there is one."""
    weights = module_digest(module, {}) if isinstance(module, nn.Module) else None
    return hashlib.sha256(json.dumps([spec, classes.labels, classes.ids, weights]).encode()).hexdigest()


def _maps(spec: str, made: Any, images: Images, size: Size, classes: ClassLabels) -> LabelMaps:
    try:
        returned = np.asarray(made.segment(images))
    except Exception as error:  # it is the user's code
        raise SegmenterError(
            f"the segmenter {spec!r} failed on images {images.shape} with {type(error).__name__}: {error}. Expected "
            "label ids; correct its segment."
        ) from error
    last = len(classes.ids) - 1
    if returned.dtype.kind not in "iu" or returned.ndim != 4 or len(returned) != len(images) or 0 in returned.shape:
        raise SegmenterError(
            f"the segmenter {spec!r} returned {returned.dtype} {returned.shape} for images {images.shape}. Expected "
            f"label ids, integers of the shape ({len(images)}, channels, height, width)."
        )
    if returned.min() < 0 or returned.max() > last:
        raise SegmenterError(
            f"the segmenter {spec!r} returned label ids from {returned.min()} to {returned.max()}. Expected 0 "
            f"(unlabeled) to {last}, the number of its labels."
        )
    return classes.label_maps(returned, size)
