r"""The search for formulas beside the package `compositional-explanations`: IoU of every unit, and processor time.

    pip download compositional-explanations==0.0.3.4 --no-deps; unzip compositional_explanations-*.whl -d PACKAGE
    python -m benchmarks.formulas_package PACKAGE --shared SHARED --units 32

The package is imported from its own folder: it installs a second top-level module, and prints its whole search, which
is dropped. It reads and writes pickles only where a cache folder is given, which is not done here. Both see the same
masks of the street images, upsampled as if the map covered the image evenly. Where the IoUs differ, all formulas are
tried.
"""

import argparse
import contextlib
import csv
import io
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netdissect.concepts import ConceptData, Size
from netdissect.concepts.label_sets import LabelSetMap
from netdissect.scoring import make_upsampler
from netdissect.scoring.formulas import ActiveRows, FormulaSearch, LabelSetTable

STEM = "reference/camvid-efficientnet_lite0_blocks.10"


def load(shared: Path) -> tuple[ConceptData, Any, list[np.float32]]:
    with (shared / f"{STEM}-lite-thresholds.csv").open(newline="") as file:
        thresholds = [np.float32(row["threshold"]) for row in csv.DictReader(file)]
    return ConceptData.open(shared / "data/broden-camvid"), np.load(shared / f"{STEM}-activations.npy"), thresholds


def masks_of(maps: Any, thresholds: list[np.float32], units: int) -> Any:
    """Return the masks of the first units, bool (units, images, height, width)."""
    upsampler = make_upsampler(Size(14, 14), Size(112, 112), Size(224, 224), None, "half-pixel")
    limits = np.array(thresholds[:units])[:, None, None]
    return np.stack([upsampler.upsample(np.ascontiguousarray(image[:units])) > limits for image in maps], axis=1)


def table_of(data: ConceptData, masks: Any) -> tuple[LabelSetTable, list[ActiveRows]]:
    tables, active = [], []
    for image in range(len(data)):
        sets = LabelSetMap.of(data.labels(image))
        for index, (label_ids, size) in enumerate(zip(sets.label_ids.tolist(), sets.set_sizes, strict=True)):
            labels = [*label_ids, *sets.image_level.tolist()]
            tables.append(LabelSetTable.of(data.category_of, [labels], [0], np.array([size])))
            active.append(masks[:, image][:, sets.index_map == index].sum(axis=1))
    table, rows = LabelSetTable.merge(tables)
    return table, [ActiveRows.of(np.concatenate(rows), counts) for counts in np.array(active).T]


def concept_masks(data: ConceptData) -> dict[int, torch.Tensor]:
    """Return the pixels of each concept, bool (images, pixels): with three axes the package fails."""
    found: dict[int, Any] = {concept.label_id: np.zeros((len(data), 112, 112), bool) for concept in data.concepts}
    for image in range(len(data)):
        labels = data.labels(image)
        for label_id, pixels in found.items():
            pixels[image] = (labels.label_channels == label_id).any(axis=0) | (label_id in labels.image_level)
    return {label_id: torch.from_numpy(pixels.reshape(len(data), -1)) for label_id, pixels in found.items()}


def exhaustive(table: LabelSetTable, active: ActiveRows) -> float:
    """Return the largest IoU of all formulas of at most three concepts."""
    counts = np.zeros(len(table), np.int64)
    counts[active.rows] = active.active
    atoms = [table.has_label(int(label_id)) for label_id in np.unique(table.label_ids)]

    def iou(covered: Any) -> float:
        hit = counts[covered].sum()
        return float(hit / (table.pixels[covered].sum() + active.mask_pixels - hit))

    def extend(covered: Any) -> list[Any]:
        return [new for atom in atoms for new in (covered | atom, covered & atom, covered & ~atom)]

    pairs = {pair.tobytes(): pair for atom in atoms for pair in extend(atom)}
    return max(map(iou, itertools.chain(atoms, pairs.values(), *(extend(pair) for pair in pairs.values()))))


def timed(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> tuple[Any, float]:
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        result = function(*arguments, **keywords)
    return result, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--units", type=int, default=32)
    chosen = parser.parse_args()
    sys.path.insert(0, str(chosen.package))
    from compositional_explanations import metrics, optimal

    torch.set_num_threads(1)
    data, maps, thresholds = load(chosen.shared)
    masks = masks_of(maps, thresholds, chosen.units)
    table, units = table_of(data, masks)
    concepts = list(concept_masks(data).values())
    disjoint = torch.tensor([[not bool((left & right).any()) for right in concepts] for left in concepts])
    finder = FormulaSearch(table)
    finder.find(units[0])
    ratios, differing, seconds = [], 0, []
    for unit, active in enumerate(units):
        own, own_time = timed(finder.find, active)
        bitmap = torch.from_numpy(masks[unit].reshape(len(data), -1))
        keywords = {"masks": concepts, "disjoint_info": disjoint, "length": 3, "device": torch.device("cpu")}
        formula, package_time = timed(optimal.compute_optimal_explanations, bitmaps=bitmap, cache_dir=None, **keywords)
        package_iou = float(metrics.compute_iou_from_masks(formula=formula, masks=concepts, bitmaps=bitmap))
        ratios.append(package_time / own_time)
        seconds.append((own_time, package_time))
        line = f"unit {unit}: IoU {own.best.iou:.6f} and {package_iou:.6f}; {own_time:.4f} s and {package_time:.3f} s"
        if abs(own.best.iou - package_iou) > 1e-12:
            differing += 1
            line += f"; all formulas: {exhaustive(table, active):.6f}; the package says {formula}"
        print(line, flush=True)
    median = np.median(seconds, axis=0)
    print(f"{len(units)} units, {differing} with another IoU; median {median[0]:.4f} s and {median[1]:.3f} s")
    print(f"ratio: median {np.median(ratios):.0f}, smallest {min(ratios):.0f}")


if __name__ == "__main__":
    main()
