"""Conclusions of rotations, layers, comparisons, trainings and their variants, from tables that show the answer."""

import polars as pl
import pytest

from netdissect.config import DissectConfig, Protocol
from netdissect.experiments import CompareConfig, LayerProfileConfig, RotateConfig, TrainingDynamicsConfig
from netdissect.experiments.compare import experiment as compare_experiment
from netdissect.experiments.counts import over_images_table
from netdissect.experiments.effect_sizes import Interval
from netdissect.experiments.layer_profile import experiment as layer_profile_experiment
from netdissect.experiments.rotate import experiment as rotate_experiment
from netdissect.experiments.training_conditions import experiment as training_conditions_experiment
from netdissect.experiments.training_conditions.experiment import VariantsConfig
from netdissect.experiments.training_dynamics import experiment as training_dynamics_experiment
from netdissect.training.workspace import SCALES

DISSECT = DissectConfig(layers=("conv5",), protocol=Protocol(quantiles=(0.005, 0.02)))
FEW, MANY, SPREAD = (9, 10, 11), (30, 31, 32), (2, 20, 38)


def counted(unique, category="total", **keys):
    return keys | {"category": category, "units": 100, "detectors": unique, "unique_detectors": unique}


def tidy(rows):
    """Put counts at the deciding quantile and rule beside others that must not count."""
    decides = {"quantile": 0.005, "rule": "top-label"}
    others = [{"quantile": 0.02, "rule": "top-label"}, {"quantile": 0.005, "rule": "per-category"}]
    nothing = {"detectors": 0, "unique_detectors": 0}
    return pl.DataFrame([row | decides for row in rows] + [row | nothing | other for other in others for row in rows])


def over_images(before, after, mean, low, high):
    return {"over_images": over_images_table({(before, after): Interval(mean, low, high, 1000)})}


def rotated(*courses):
    """Table of a layer of 20 unique detectors and of rotations, each with its counts at alpha 1/2 and 1."""
    rows = [counted(20, basis="original", seed=None, alpha=0.0, layer="conv5")]
    for seed, course in enumerate(courses):
        places = zip((0.5, 1.0), course, strict=True)
        rows += [counted(unique, basis="rotation", seed=seed, alpha=alpha, layer="conv5") for alpha, unique in places]
    return tidy(rows)


ROTATE = RotateConfig(dissect=DISSECT, steps=2, rule="top-label")


@pytest.mark.parametrize(
    ("unique_detectors", "change", "agreement"),
    [
        (FEW, "by -50%, that is -10 (95 % interval -12.5 to -7.52, n = 3)", "agrees"),
        (MANY, "by +55%, that is 11 (95 % interval 8.52 to 13.5, n = 3)", "disagrees"),
        (SPREAD, "by +0%, that is 0 (95 % interval -20 to 44.7, n = 3)", "not established"),
        ((9, 10), "by -52%, that is -10.5", "not established"),  # two rotations are too few
        ((), "nothing that rotations could cost", "not established"),
    ],
)
def test_rotations_that_cost_detectors_agree(unique, change, agreement):
    verdict = rotate_experiment.conclude(rotated(*((15, whole) for whole in unique)), ROTATE)
    assert verdict.agreement == agreement
    assert change in verdict.finding


@pytest.mark.parametrize(
    ("interval", "agreement"),
    [((-10, -14, -6), "agrees"), ((-10, -21, 1), "not established"), ((10, 6, 14), "not established")],
)
def test_rotations_have_to_cost_detectors_over_images_too(interval, agreement):
    table = rotated(*((15, unique) for unique in FEW))
    verdict = rotate_experiment.conclude(table, ROTATE, extra=over_images("original", "rotation", *interval))
    assert verdict.agreement == agreement


@pytest.mark.parametrize(("half", "words"), [(15, "20, 15, 10; they fall"), (8, "20, 8, 10; they do not fall")])
def test_a_rotation_is_followed_from_its_beginning(half, words):
    finding = rotate_experiment.conclude(rotated(*((half, unique) for unique in FEW)), ROTATE).finding
    assert f"Means from alpha 0 to 1: {words} at every step." in finding


@pytest.mark.parametrize(
    ("low", "high", "agreement", "words"),
    [
        ((9, 1, 0), (0, 1, 9), "agrees", "a difference of 0.9 "),
        ((0, 1, 9), (9, 1, 0), "disagrees", "a difference of -0.9 "),
        ((4, 4, 4), (4, 4, 4), "not established", "a difference of 0 "),
        ((9, 1, 0), (0, 0, 1), "not established", "too few to compare"),
    ],
)
def test_objects_deeper_than_colors_agree(low, high, agreement, words):
    rows = []
    for layer, colors, objects in zip(("conv1", "conv2", "conv3"), low, high, strict=True):
        detectors = {"color": colors, "texture": 0, "object": 0, "part": objects, "scene": 3}
        rows += [counted(number, category, layer=layer) for category, number in detectors.items()]
        rows.append(counted(colors + objects + 3, layer=layer))
    verdict = layer_profile_experiment.conclude(tidy(rows), LayerProfileConfig(dissect=DISSECT, rule="top-label"))
    assert verdict.agreement == agreement
    assert words in verdict.finding
    totals = [sum(both) + 3 for both in zip(low, high, strict=True)]
    assert f"conv1 {totals[0]}, conv2 {totals[1]}, conv3 {totals[2]}." in verdict.finding


MORE, LESS, EITHER = (5, 2, 8), (-5, -8, -2), (1, -3, 5)


@pytest.mark.parametrize(
    ("first", "second", "agreement"),
    [
        (MORE, MORE, "agrees"),
        (MORE, LESS, "disagrees"),
        (LESS, EITHER, "disagrees"),
        (MORE, EITHER, "not established"),
        (MORE, None, "not established"),
    ],
)
def test_networks_in_the_expected_order_agree(first, second, agreement):
    table = tidy([counted(unique, network=network) for network, unique in (("vgg", 20), ("resnet", 25), ("alex", 15))])
    differences = {("vgg", "resnet"): first, ("alex", "vgg"): second}
    found = {sides: Interval(*ends, 1000) if ends else None for sides, ends in differences.items()}
    config = CompareConfig(expected=("resnet", "vgg", "alex"), rule="top-label")
    table = table.filter(quantile=0.005)  # the experiment's own table has a single quantile
    verdict = compare_experiment.conclude(table, config, extra={"over_images": over_images_table(found)})
    assert verdict.agreement == agreement
    assert verdict.finding.startswith("Unique detectors, most first: resnet 25; vgg 20; alex 15. resnet against vgg: ")
    alone = compare_experiment.conclude(table, CompareConfig(rule="top-label"))
    assert alone.agreement == "not compared"


GROWN, SHRUNK = tuple(zip(FEW, MANY, strict=True)), tuple(zip(MANY, FEW, strict=True))
UNDECIDED = tuple(zip(MANY, SPREAD, strict=True))


def followed(courses, changed):
    """Table of trainings at steps 0 and 100; of 20 units of the first, the category of some changes."""
    table = tidy(
        counted(unique, seed=seed, step=step)
        for seed, course in enumerate(courses)
        for step, unique in zip((0, 100), course, strict=True)
    )
    units = [
        {"seed": 0, "step": step, "unit": unit, "category": "part" if step and unit < changed else "object"}
        for step in (0, 100)
        for unit in range(20)
    ]
    return table, pl.DataFrame(units).with_columns(detector=True)


@pytest.mark.parametrize(
    ("courses", "changed", "agreement"),
    [
        (GROWN, 1, "agrees"),
        (SHRUNK, 1, "disagrees"),
        (GROWN, 19, "disagrees"),
        (UNDECIDED, 1, "not established"),
        (GROWN, 10, "not established"),
        (UNDECIDED, 19, "disagrees"),
    ],
)
def test_detectors_that_grow_and_keep_their_category_agree(courses, changed, agreement):
    table, units = followed(courses, changed)
    verdict = training_dynamics_experiment.conclude(
        table, TrainingDynamicsConfig(rule="top-label"), extra={"units": units}
    )
    assert verdict.agreement == agreement
    assert f"its category changed {changed} times" in verdict.finding


@pytest.mark.parametrize(
    ("interval", "agreement"), [(MORE, "agrees"), (LESS, "disagrees"), (EITHER, "not established")]
)
def test_a_single_training_is_judged_over_images(interval, agreement):
    table, units = followed(GROWN[:1], changed=1)
    extra = {"units": units} | over_images("0", "100", *interval)
    assert (
        training_dynamics_experiment.conclude(table, TrainingDynamicsConfig(rule="top-label"), extra=extra).agreement
        == agreement
    )
    alone = training_dynamics_experiment.conclude(
        table, TrainingDynamicsConfig(rule="top-label"), extra={"units": units}
    )
    assert alone.agreement == "not established"


def concluded(condition, counts, **extra):
    """Conclude from the unique detectors of three seeds by variant and category."""
    rows = [
        counted(unique, category, variant=variant, seed=seed, accuracy=0.5)
        for (variant, category), values in counts.items()
        for seed, unique in enumerate(values)
    ]
    config = VariantsConfig(condition=condition, scale=SCALES["small"], rule="top-label")
    return training_conditions_experiment.conclude(tidy(rows), config, extra=extra)


@pytest.mark.parametrize(
    ("unique_detectors", "concepts", "units", "agreement"),
    [
        (MANY, 0.9, 0.1, "agrees"),
        (MANY, 0.1, 0.9, "disagrees"),
        (MANY, 0.9, 0.5, "agrees"),
        (SPREAD, 0.9, 0.1, "not established"),
        (MANY[:2], 0.9, 0.1, "not established"),  # two seeds are too few
        (MANY, None, None, "not established"),
    ],
)
def test_seeds_of_equal_counts_and_different_units_agree(unique, concepts, units, agreement):
    pairs = pl.DataFrame(
        {"concepts": [concepts] * 3, "units": [units] * 3}, schema=dict.fromkeys(("concepts", "units"), pl.Float64)
    )
    assert concluded("seeds", {("seeds", "total"): unique}, pairs=pairs).agreement == agreement


@pytest.mark.parametrize(
    ("textures", "objects", "agreement"),
    [
        ((FEW, MANY), (MANY, FEW), "agrees"),
        ((MANY, FEW), (FEW, MANY), "disagrees"),
        ((FEW, MANY), (FEW, MANY), "disagrees"),
        ((FEW, MANY), (FEW, SPREAD), "not established"),
    ],
)
def test_more_textures_and_fewer_objects_without_dropout_agree(textures, objects, agreement):
    names = ("dropout", "no dropout")
    counts = {}
    for name, texture, thing in zip(names, textures, objects, strict=True):
        total = [sum(both) for both in zip(texture, thing, strict=True)]
        counts |= {(name, "texture"): texture, (name, "object"): thing, (name, "total"): total}
    assert concluded("dropout", counts).agreement == agreement


@pytest.mark.parametrize(
    ("plain", "normalized", "agreement", "change"),
    [
        (MANY, FEW, "agrees", "changes them by -21 "),
        (FEW, MANY, "disagrees", "changes them by 21 "),
        (MANY, SPREAD, "not established", "changes them by -11 "),
    ],
)
def test_fewer_detectors_with_batch_normalization_agree(plain, normalized, agreement, change):
    verdict = concluded("batchnorm", {("plain", "total"): plain, ("batch norm", "total"): normalized})
    assert verdict.agreement == agreement
    assert change in verdict.finding


@pytest.mark.parametrize("condition", ["width", "depth"])
@pytest.mark.parametrize(
    ("least", "most", "agreement", "change"),
    [
        (FEW, MANY, "agrees", "From a to d they change by 21 "),
        (MANY, FEW, "disagrees", "From a to d they change by -21 "),
        (MANY, SPREAD, "not established", "From a to d they change by -11 "),
    ],
)
def test_more_detectors_in_the_largest_network_than_in_the_smallest_agree(condition, least, most, agreement, change):
    courses = zip("abcd", (least, SPREAD, (20, 20, 20), most), strict=True)
    verdict = concluded(condition, {(name, "total"): unique for name, unique in courses})
    assert verdict.agreement == agreement
    assert change in verdict.finding
    step = sum(most) / 3 - 20
    assert f"; of this {step:.3g} (" in verdict.finding
