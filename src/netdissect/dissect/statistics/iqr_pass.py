"""The thresholds and labels of the highest information quality ratio: one more pass over all activations.

    thresholds at 90 fractions, from the threshold pass -> pixels between them on each label -> table ``iqr``

Source: `netdissect.scoring.iqr`, which defines the ratio.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.concepts import ConceptData
from netdissect.dissect.layer_state import AnyCollector, Maps, prefix_layers, strip_prefix
from netdissect.dissect.passes import TwoPass
from netdissect.result import statistics_schema as tables
from netdissect.scoring import ConceptTotals, iou
from netdissect.scoring.iqr.information_quality import FEWEST_PIXELS, FRACTIONS, best_iqr
from netdissect.scoring.iqr.level_histograms import LevelHistograms

Arrays = dict[str, npt.NDArray[Any]]
STAGE = "information quality"


def iqr_levels(collectors: Mapping[str, AnyCollector]) -> dict[str, Maps]:
    """Return the thresholds of each layer at each fraction, float32 (F, U), after the threshold pass."""
    return {
        name: collector.top_values.thresholds(FRACTIONS, collector.plan.config.protocol.threshold)
        for name, collector in collectors.items()
    }


def count_between_levels(
    two_pass: TwoPass, collectors: Mapping[str, AnyCollector], levels: Mapping[str, Maps], totals: ConceptTotals
) -> dict[str, LevelHistograms]:
    """Run one more pass over all activations.

    Parameters
    ----------
    two_pass
        The run.
    collectors
        Of each layer, after the threshold pass.
    levels : float32 (F, U)
        Of each layer; see `iqr_levels`.
    totals
        Pixels of each label.
    """
    data, plans = two_pass.source.data, {plan.layer.name: plan for plan in two_pass.plan.layers}
    label_ids, categories = _frequent_labels(data, totals), len(data.categories)
    layers = {
        name: LevelHistograms.zeros(np.ascontiguousarray(each[::-1].T), label_ids, categories)
        for name, each in levels.items()
    }
    saved = two_pass.work.load("iqr")
    done = int(saved.get("batches", 0))
    for index, histograms in enumerate(layers.values()):
        for name, counts in strip_prefix(f"layer{index}", saved).items():
            getattr(histograms, name)[:] = counts

    def state() -> Arrays:
        counts = ({"positives": each.positives, "all": each.all} for each in layers.values())
        return {"batches": np.array(done)} | prefix_layers(counts)

    labels = two_pass.label_reader.read(range(done * two_pass.starts.step, len(data)))
    for batch in two_pass.replay_all(STAGE, collectors, done):
        maps = {name: batch.dense(name).cpu().numpy() for name in batch.maps}
        for index, image in zip(range(len(batch.rows)), labels, strict=False):
            for name, histograms in layers.items():
                histograms.update(maps[name][index], image, plans[name].grid_to(image.size))
        done += 1
        two_pass.work.save("iqr", state)
    return layers


def iqr_table(data: ConceptData, histograms: LevelHistograms, totals: ConceptTotals) -> pl.DataFrame:
    """Return the threshold and label of the highest ratio of each unit that has one."""
    label_ids, thresholds = histograms.label_ids, histograms.levels[:, ::-1].T
    categories, (hits, active) = data.category_of[label_ids], histograms.counts_above()
    concept, pixels = totals.pixels[label_ids], totals.annotated[categories]
    best = best_iqr(hits, active[:, :, categories], concept, pixels, thresholds)
    unit = np.flatnonzero(best.quantile >= 0)
    quantile, index = best.quantile[unit], best.concept[unit]
    found_hits, found_active = hits[quantile, unit, index], active[quantile, unit, categories[index]]
    agree = pixels[index] - found_active - concept[index] + 2 * found_hits
    frame = pl.DataFrame(
        {
            "unit": unit,
            "label_id": label_ids[index],
            "label": [data.by_label_id[int(each)].name for each in label_ids[index]],
            "category": [data.by_label_id[int(each)].category for each in label_ids[index]],
            "quantile": np.array(FRACTIONS)[quantile],
            "threshold": thresholds[quantile, unit],
            "iqr": best.iqr[unit],
            "iou": iou(found_hits, found_active, concept[index]),
            "agreement": agree / pixels[index],
        }
    )
    return tables.complete(frame, tables.IQR)


def _frequent_labels(data: ConceptData, totals: ConceptTotals) -> npt.NDArray[np.int64]:
    """Return the label ids that have at least a thousandth of the pixels, int64 (T,)."""
    known = np.array(sorted(data.by_label_id), np.int64)
    return known[totals.pixels[known] >= FEWEST_PIXELS * totals.annotated[data.category_of[known]]]
