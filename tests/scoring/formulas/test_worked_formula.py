"""A worked formula on real images: the street images of the reference result, 25 concepts, one unit."""

import csv
from pathlib import Path

import numpy as np
import pytest

from netdissect.concepts import ConceptData, Size
from netdissect.concepts.label_sets import LabelSetMap
from netdissect.scoring import make_upsampler
from netdissect.scoring.formulas import ActiveRows, Formula, FormulaSearch, LabelSetTable, SearchOptions

STEM = "reference/camvid-efficientnet_lite0_blocks.10"
UNIT = 5

pytestmark = pytest.mark.real


def street_table(shared: Path) -> tuple[LabelSetTable, ActiveRows]:
    """Count the images, and the masks of one unit upsampled as if the map covered the image evenly."""
    data = ConceptData.open(shared / "data/broden-camvid")
    maps = np.load(shared / f"{STEM}-activations.npy")[:, UNIT : UNIT + 1]
    with (shared / f"{STEM}-paper-thresholds.csv").open(newline="") as file:
        threshold = np.float32(list(csv.DictReader(file))[UNIT]["threshold"])
    upsampler = make_upsampler(Size(14, 14), Size(112, 112), Size(224, 224), None, "half-pixel")
    tables, active = [], []
    for image in range(len(data)):
        sets = LabelSetMap.of(data.labels(image))
        mask = upsampler.upsample(maps[image])[0] > threshold
        for label_set, (label_ids, size) in enumerate(zip(sets.label_ids.tolist(), sets.set_sizes, strict=True)):
            labels = [*label_ids, *sets.image_level.tolist()]
            tables.append(LabelSetTable.of(data.category_of, [labels], [0], np.array([size])))
            active.append(int(mask[sets.index_map == label_set].sum()))
    table, rows = LabelSetTable.merge(tables)
    return table, ActiveRows.of(np.concatenate(rows), active)


def test_the_formula_of_a_unit_is_yellow_outside_of_buildings_and_cars(shared: Path) -> None:
    table, active = street_table(shared)
    assert len(table) == 418
    assert table.pixels.sum() == 184 * 112 * 112
    result = FormulaSearch(table).find(active)
    assert result.optimal
    assert result.best is not None
    assert result.concept is not None
    assert result.best.formula == Formula((19, 7, 10), ("and-not", "and-not"))
    assert result.best.iou == pytest.approx(0.02304, abs=1e-5)
    assert result.concept.formula == Formula((19,))
    assert result.concept.iou == pytest.approx(0.0165, abs=5e-5)
    beam = FormulaSearch(table, SearchOptions(method="beam")).find(active)
    assert beam.best is not None
    assert beam.best.iou <= result.best.iou <= beam.iou_upper_bound
