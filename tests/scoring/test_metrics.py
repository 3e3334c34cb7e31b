"""Extra metrics against scikit-learn and SciPy on the raw values."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pointbiserialr
from sklearn.metrics import average_precision_score, roc_auc_score

import strategies
from netdissect.concepts import Size
from netdissect.scoring import ImageLabels, make_upsampler
from netdissect.scoring.metrics import auroc, auroc_error, average_precision, point_biserial, selectivity
from netdissect.scoring.response_histograms import ResponseHistograms, ValueBins


def measured(
    world: strategies.World, definition: strategies.Definition, rows: list[int], label_ids: npt.NDArray[np.int64]
) -> ResponseHistograms:
    data = world.data()
    bins = ValueBins.of(
        world.maps[:2], np.quantile(world.maps, 0.7, axis=(0, 2, 3)).astype(np.float32), world.maps.max(axis=(0, 2, 3))
    )
    found = ResponseHistograms.zeros(bins, label_ids, len(data.categories), 10**6)
    for row in rows:
        image = ImageLabels.of(world.labels(row), data, definition.protocol.duplicates)
        size = image.size
        upsampler = make_upsampler(world.cells(), size, Size(*world.source), world.field(), definition.protocol.anchor)
        found.update(world.maps[row], image, upsampler)
    return found


def raw(
    world: strategies.World, definition: strategies.Definition, unit: int, label_id: int
) -> tuple[npt.NDArray[np.bool_], strategies.Floats]:
    """All pixels of the images annotated in the category of a label: do they have it, and the values of the unit."""
    concept, values = [], []
    for maps, image in zip(world.maps, world.images, strict=True):
        if not any(world.category_of[other] == world.category_of[label_id] for other in image.label_ids()):
            continue
        upsampler = make_upsampler(
            world.cells(), Size(*image.size), Size(*world.source), world.field(), definition.protocol.anchor
        )
        values.append(upsampler.upsample(maps[unit]).ravel())
        held = [channel == label_id for channel in image.channels()]
        concept.append(np.any(held, axis=0).ravel() if held else np.zeros(image.size, bool).ravel())
    return np.concatenate(concept or [[]]).astype(bool), np.concatenate(values or [[]]).astype(np.float32)


@given(strategies.worlds(), strategies.definitions())
@settings(max_examples=60)
def test_extra_metrics_are_those_of_scikit_learn_on_the_raw_values(
    world: strategies.World, definition: strategies.Definition
) -> None:
    rng = np.random.default_rng(0)
    units = world.maps.shape[1]
    label_ids = rng.integers(0, 1 + max(world.category_of), (units, 3))
    found = measured(world, definition, list(range(len(world.maps))), label_ids)
    for unit, slot in np.ndindex(units, 3):
        label_id = int(label_ids[unit, slot])
        if label_id == 0:
            assert found.positives[unit, slot].sum() == 0
            continue
        concept, values = raw(world, definition, unit, label_id)
        positives, all_values = found.positives[unit, slot], found.all[unit, world.category_of[label_id]]
        assert (positives.sum(), all_values.sum()) == (concept.sum(), len(concept))
        if concept.all() or not concept.any():
            assert np.isnan(auroc(positives, all_values - positives))
            continue
        negatives = all_values - positives
        error, expected = auroc_error(positives, negatives), roc_auc_score(concept, values)
        assert auroc(positives, negatives) == pytest.approx(expected, abs=error + 1e-12)
        if len(np.unique(values)) == np.count_nonzero(all_values):  # one value a bin: nothing is unknown
            assert auroc(positives, negatives) == pytest.approx(expected)
            exact = average_precision_score(concept, values)
            assert average_precision(positives, negatives) == pytest.approx(exact)
        moments, total = found.moments[unit, world.category_of[label_id]], np.int64(len(concept))
        correlation = point_biserial(found.sums[unit, slot], moments, positives.sum(), total)
        if np.ptp(values) > 0:
            assert correlation == pytest.approx(pointbiserialr(concept, values).statistic, abs=1e-6)


def test_two_thousand_bins_give_smooth_values_to_a_ten_thousandth() -> None:
    rng = np.random.default_rng(1)
    concept = rng.random(200_000) < 0.02
    values = np.maximum(rng.normal(size=len(concept)) + concept, 0).astype(np.float32)
    bins = ValueBins(np.float32(0), np.quantile(values, 0.995), values.max())
    body, top = np.linspace(0, bins.middle, 1024), np.linspace(bins.middle, bins.high, 1025)
    edges = np.concatenate([[0, 1e-30], body[1:], top[1:]])
    positives, negatives = (np.histogram(values[which], edges)[0] for which in (concept, ~concept))
    assert auroc(positives, negatives) == pytest.approx(roc_auc_score(concept, values), abs=1e-4)
    assert average_precision(positives, negatives) == pytest.approx(average_precision_score(concept, values), abs=1e-3)
    assert auroc_error(positives, negatives) < 0.2  # half of the values are the same 0: no order could be known


@given(strategies.worlds(), strategies.definitions(), st.integers(0, 4))
@settings(max_examples=15)
def test_parts_add_up_to_the_whole(world: strategies.World, definition: strategies.Definition, cut: int) -> None:
    label_ids = np.arange(1, 1 + world.maps.shape[1])[:, None] % (1 + max(world.category_of))
    rows = list(range(len(world.maps)))
    whole = measured(world, definition, rows, label_ids)
    parts = measured(world, definition, rows[:cut], label_ids) + measured(world, definition, rows[cut:], label_ids)
    np.testing.assert_array_equal(parts.positives, whole.positives)
    np.testing.assert_array_equal(parts.all, whole.all)
    np.testing.assert_allclose(parts.sums, whole.sums, rtol=1e-12)
    np.testing.assert_allclose(parts.moments, whole.moments, rtol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_selectivity_is_scikit_learn_s_over_annotated_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maxima = rng.integers(0, 5, 12).astype(np.float32)
    annotated = rng.random(12) < 0.8
    holds = annotated & (rng.random(12) < 0.5)
    found = selectivity(maxima, holds, annotated)
    if holds.any() and not holds[annotated].all():
        assert found == pytest.approx(roc_auc_score(holds[annotated], maxima[annotated]))
    else:
        assert np.isnan(found)
