"""The masks of the concepts in an image as a script: many pages show them, and load it when they do.

A page on disk cannot read other files, but it can run a script beside the image.
"""

import json
from collections.abc import Sequence

from netdissect.concepts import Labels, Size
from netdissect.plots.outlines import mask_runs_text, view_box
from netdissect.plots.overlap import concept_mask, label_ids
from netdissect.report.layer_tables import NumberedRun


def concept_script(runs: Sequence[NumberedRun], labels: Labels | None) -> str:
    """Return a script that gives its own element the masks: view box -> label id -> `mask_runs_text`.

    Parameters
    ----------
    runs
        Runs on the data set of the image: their masks may be scored on grids of different sizes.
    labels
        Of the image; None: they cannot be read, and the script has no masks.
    """
    masks = {} if labels is None else {view_box(size): _masks(labels, size) for size in _sizes(runs, labels)}
    return f"document.currentScript.masks = {json.dumps(masks, separators=(',', ':'))};\n"


def _sizes(runs: Sequence[NumberedRun], labels: Labels) -> list[Size]:
    """Return the grids on which pages show concepts: those of the label maps, and those of the protocols."""
    sides = {run.result.info.config.protocol.segmentation_size for run in runs} - {None}
    return list(dict.fromkeys([labels.size, *(Size(side, side) for side in sides if side)]))


def _masks(labels: Labels, size: Size) -> dict[int, str]:
    maps = labels if labels.size == size else labels.resized(size)
    return {label_id: mask_runs_text(concept_mask(maps, (label_id,), size)) for label_id in label_ids(labels)}
