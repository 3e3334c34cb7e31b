"""Conclusions of rotations, layers, comparisons, trainings and their variants, from tables that show the answer."""

import polars as pl
import pytest

from netdissect.config import DissectConfig, Protocol
from netdissect.experiments.compare import experiment as compare_experiment
from netdissect.experiments.compare.experiment import CompareConfig
from netdissect.experiments.counts import over_images_table
from netdissect.experiments.layer_profile import experiment as layer_profile_experiment
from netdissect.experiments.layer_profile.experiment import LayerProfileConfig
from netdissect.experiments.rotate import experiment as rotate_experiment
from netdissect.experiments.rotate.experiment import RotateConfig
from netdissect.experiments.training_conditions import experiment as training_conditions_experiment
from netdissect.experiments.training_conditions.experiment import TrainingConditionsConfig
from netdissect.experiments.training_dynamics import experiment as training_dynamics_experiment
from netdissect.experiments.training_dynamics.experiment import TrainingDynamicsConfig
from netdissect.result import PairedDifference
from netdissect.result.run_differences import NOT_MEASURED
from netdissect.training.workspace import SCALES

DISSECT = DissectConfig(layers=("conv5",), protocol=Protocol(quantiles=(0.005, 0.02)))
FEW, MANY, SPREAD = (9, 10, 11), (30, 31, 32), (2, 20, 38)


def counted(unique, category="total", null=None, **keys):
    about = {"category": category, "units": 100, "null_unique_detectors": null}
    return keys | about | {"detectors": unique, "unique_detectors": unique}


def tidy(rows):
    """Put counts at the deciding quantile and rule beside others that must not count."""
    decides = {"quantile": 0.005, "rule": "top-label"}
    others = [{"quantile": 0.02, "rule": "top-label"}, {"quantile": 0.005, "rule": "per-category"}]
    nothing = {"detectors": 0, "unique_detectors": 0}
    return pl.DataFrame([row | decides for row in rows] + [row | nothing | other for other in others for row in rows])


def difference(mean, low, high, null=None, p=0.02, no_null=NOT_MEASURED):
    """Return a difference over images; with a mean under the null, its p-value is `p`."""
    if null is None:
        return PairedDifference(mean, (low, high), 1000, no_null=no_null)
    return PairedDifference(mean, (low, high), 1000, null, 0.1, p, 100, "")


def over_images(before, after, *numbers, **null):
    return {"over_images": over_images_table({(before, after): difference(*numbers, **null)})}


def rotated(*courses):
    """Table of a layer of 20 unique detectors and of rotations, each with its counts at alpha 1/2 and 1."""
    rows = [counted(20, basis="original", seed=None, alpha=0.0, layer="conv5")]
    for seed, course in enumerate(courses):
        places = zip((0.5, 1.0), course, strict=True)
        rows += [counted(unique, basis="rotation", seed=seed, alpha=alpha, layer="conv5") for alpha, unique in places]
    return tidy(rows)


ROTATE = RotateConfig(dissect=DISSECT, steps=2, rule="top-label")


@pytest.mark.parametrize(
    ("unique", "change", "outcome"),
    [
        (FEW, "by -50%, that is -10 (95 % interval -12.5 to -7.52, n = 3)", "agrees"),
        (MANY, "by +55%, that is 11 (95 % interval 8.52 to 13.5, n = 3)", "disagrees"),
        (SPREAD, "by +0%, that is 0 (95 % interval -20 to 44.7, n = 3)", "inconclusive"),
        ((9, 10), "by -52%, that is -10.5", "inconclusive"),  # two rotations are too few
        ((), "nothing that rotations could cost", "inconclusive"),
    ],
)
def test_rotations_that_cost_detectors_agree(unique, change, outcome):
    conclusion = rotate_experiment.conclude(rotated(*((15, whole) for whole in unique)), ROTATE)
    assert conclusion.outcome == outcome
    assert change in conclusion.finding


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [((-10, -14, -6), "agrees"), ((-10, -21, 1), "inconclusive"), ((10, 6, 14), "inconclusive")],
)
def test_rotations_have_to_cost_detectors_over_images_too(interval, outcome):
    table = rotated(*((15, unique) for unique in FEW))
    conclusion = rotate_experiment.conclude(table, ROTATE, extra=over_images("original", "rotation", *interval))
    assert conclusion.outcome == outcome


def test_rotations_have_to_cost_detectors_beyond_the_permutation_null():
    def concluded(null_of_units, images=None):
        rows = [counted(20, null=null_of_units, basis="original", seed=None, alpha=0.0, layer="conv5")]
        rows += [
            counted(unique, null=1.0, basis="rotation", seed=seed, alpha=alpha, layer="conv5")
            for seed, unique in enumerate(FEW)
            for alpha in (0.5, 1.0)
        ]
        return rotate_experiment.conclude(tidy(rows), ROTATE, extra=images or {})

    assert concluded(1.0).outcome == "agrees"
    assert "conv5 has 20 (1 under the permutation null)" in concluded(1.0).finding.replace("1.0 under", "1 under")
    assert concluded(11.0).outcome == "inconclusive"  # the units of the null account for what is lost
    assert "beyond the permutation null 0 (95 % interval -2.48 to 2.48, n = 3)" in concluded(11.0).finding
    assert concluded(16.0).outcome == "disagrees"
    assert concluded(1.0, over_images("original", "rotation", -10, -14, -6, null=0.0)).outcome == "agrees"
    assert concluded(1.0, over_images("original", "rotation", -10, -14, -6, null=-9.5)).outcome == "inconclusive"


@pytest.mark.parametrize(("half", "words"), [(15, "20, 15, 10; they fall"), (8, "20, 8, 10; they do not fall")])
def test_a_rotation_is_followed_from_its_beginning(half, words):
    finding = rotate_experiment.conclude(rotated(*((half, unique) for unique in FEW)), ROTATE).finding
    assert f"Means from alpha 0 to 1: {words} at every step." in finding


@pytest.mark.parametrize(
    ("low", "high", "outcome", "words"),
    [
        ((9, 1, 0), (0, 1, 9), "agrees", "a difference of 0.9 "),
        ((0, 1, 9), (9, 1, 0), "disagrees", "a difference of -0.9 "),
        ((4, 4, 4), (4, 4, 4), "inconclusive", "a difference of 0 "),
        ((9, 1, 0), (0, 0, 1), "inconclusive", "too few to compare"),
    ],
)
def test_objects_deeper_than_colors_agree(low, high, outcome, words):
    rows = []
    for layer, colors, objects in zip(("conv1", "conv2", "conv3"), low, high, strict=True):
        detectors = {"color": colors, "texture": 0, "object": 0, "part": objects, "scene": 3}
        rows += [counted(number, category, layer=layer) for category, number in detectors.items()]
        rows.append(counted(colors + objects + 3, layer=layer))
    conclusion = layer_profile_experiment.conclude(tidy(rows), LayerProfileConfig(dissect=DISSECT, rule="top-label"))
    assert conclusion.outcome == outcome
    assert words in conclusion.finding
    totals = [sum(both) + 3 for both in zip(low, high, strict=True)]
    assert f"conv1 {totals[0]}, conv2 {totals[1]}, conv3 {totals[2]}." in conclusion.finding


MORE, LESS, EITHER = (5, 2, 8), (-5, -8, -2), (1, -3, 5)


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        (MORE, MORE, "agrees"),
        (MORE, LESS, "disagrees"),
        (LESS, EITHER, "disagrees"),
        (MORE, EITHER, "inconclusive"),
        (MORE, None, "inconclusive"),
    ],
)
def test_networks_in_the_expected_order_agree(first, second, outcome):
    table = tidy([counted(unique, network=network) for network, unique in (("vgg", 20), ("resnet", 25), ("alex", 15))])
    differences = {("vgg", "resnet"): first, ("alex", "vgg"): second}
    found = {sides: difference(*ends) if ends else None for sides, ends in differences.items()}
    config = CompareConfig(expected=("resnet", "vgg", "alex"), rule="top-label")
    table = table.filter(quantile=0.005)  # the experiment's own table has a single quantile
    conclusion = compare_experiment.conclude(table, config, extra={"over_images": over_images_table(found)})
    assert conclusion.outcome == outcome
    assert conclusion.finding.startswith(
        "Unique detectors, most first: resnet 25; vgg 20; alex 15. The permutation null was not measured. resnet "
        "against vgg, over the same images: "
    )
    alone = compare_experiment.conclude(table, CompareConfig(rule="top-label"))
    assert alone.outcome == "not compared"


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
    ("courses", "changed", "outcome"),
    [
        (GROWN, 1, "agrees"),
        (SHRUNK, 1, "disagrees"),
        (GROWN, 19, "disagrees"),
        (UNDECIDED, 1, "inconclusive"),
        (GROWN, 10, "inconclusive"),
        (UNDECIDED, 19, "disagrees"),
    ],
)
def test_detectors_that_grow_and_keep_their_category_agree(courses, changed, outcome):
    table, units = followed(courses, changed)
    conclusion = training_dynamics_experiment.conclude(
        table, TrainingDynamicsConfig(rule="top-label"), extra={"units": units}
    )
    assert conclusion.outcome == outcome
    assert f"its category changed {changed} times" in conclusion.finding


@pytest.mark.parametrize(("interval", "outcome"), [(MORE, "agrees"), (LESS, "disagrees"), (EITHER, "inconclusive")])
def test_a_single_training_is_decided_over_images(interval, outcome):
    table, units = followed(GROWN[:1], changed=1)
    extra = {"units": units} | over_images("0", "100", *interval)
    assert (
        training_dynamics_experiment.conclude(table, TrainingDynamicsConfig(rule="top-label"), extra=extra).outcome
        == outcome
    )
    alone = training_dynamics_experiment.conclude(
        table, TrainingDynamicsConfig(rule="top-label"), extra={"units": units}
    )
    assert alone.outcome == "inconclusive"


BEYOND_NULL = [
    ((19, 11, 26), {"null": 1.0}, "agrees"),
    ((19, 11, 26), {"null": 19.5, "p": 0.9}, "inconclusive"),  # all of it is under the null
    ((19, 11, 26), {"null": 30.0}, "disagrees"),
    ((-19, -26, -11), {"null": -19.5, "p": 0.9}, "inconclusive"),
    ((-19, -26, -11), {"null": -1.0}, "disagrees"),
    ((19, 11, 26), {"null": 1.0, "p": 0.06}, "inconclusive"),  # within what permutations give
    ((19, 11, 26), {"no_null": "the null hypotheses differ"}, "inconclusive"),
    ((19, 11, 26), {}, "agrees"),
]


@pytest.mark.parametrize(("interval", "null", "outcome"), BEYOND_NULL)
def test_a_growth_has_to_exceed_its_null(interval, null, outcome):
    table, units = followed(GROWN[:1], changed=1)
    extra = {"units": units} | over_images("0", "100", *interval, **null)
    found = training_dynamics_experiment.conclude(table, TrainingDynamicsConfig(rule="top-label"), extra=extra)
    assert found.outcome == outcome
    exceeds = "the difference exceeds its null" in found.finding
    assert exceeds == (outcome != "inconclusive" and "null" in null)


@pytest.mark.parametrize(("interval", "null", "outcome"), BEYOND_NULL)
def test_networks_in_the_expected_order_have_to_differ_beyond_their_null(interval, null, outcome):
    table = tidy([counted(unique, network=network) for network, unique in (("vgg", 6), ("resnet", 25))])
    config = CompareConfig(expected=("resnet", "vgg"), rule="top-label")
    found = compare_experiment.conclude(
        table.filter(quantile=0.005), config, extra=over_images("vgg", "resnet", *interval, **null)
    )
    assert found.outcome == outcome


@pytest.mark.parametrize(("last", "outcome"), [(0.0, "agrees"), (21.0, "inconclusive"), (40.0, "disagrees")])
def test_trainings_have_to_grow_beyond_their_nulls(last, outcome):
    table = tidy(
        counted(unique, null=null, seed=seed, step=step)
        for seed, course in enumerate(GROWN)
        for step, unique, null in zip((0, 100), course, (0.0, last), strict=True)
    )
    _, units = followed(GROWN, changed=1)
    config = TrainingDynamicsConfig(rule="top-label")
    found = training_dynamics_experiment.conclude(table, config, extra={"units": units})
    assert found.outcome == outcome
    assert f"10 (0 under the permutation null) at 0, 31 ({last:.3g} under the permutation null) at 100" in found.finding


def concluded(condition, counts, **extra):
    """Conclude from the unique detectors of three seeds by variant and category."""
    rows = [
        counted(unique, category, condition=variant, seed=seed, accuracy=0.5)
        for (variant, category), values in counts.items()
        for seed, unique in enumerate(values)
    ]
    config = TrainingConditionsConfig(condition=condition, scale=SCALES["small"], rule="top-label")
    return training_conditions_experiment.conclude(tidy(rows), config, extra=extra)


@pytest.mark.parametrize(
    ("unique", "concepts", "units", "outcome"),
    [
        (MANY, 0.9, 0.1, "agrees"),
        (MANY, 0.1, 0.9, "disagrees"),
        (MANY, 0.9, 0.5, "agrees"),
        (SPREAD, 0.9, 0.1, "inconclusive"),
        (MANY[:2], 0.9, 0.1, "inconclusive"),  # two seeds are too few
        (MANY, None, None, "inconclusive"),
    ],
)
def test_seeds_of_equal_counts_and_different_units_agree(unique, concepts, units, outcome):
    pairs = pl.DataFrame(
        {"concepts": [concepts] * 3, "units": [units] * 3}, schema=dict.fromkeys(("concepts", "units"), pl.Float64)
    )
    assert concluded("seeds", {("seeds", "total"): unique}, pairs=pairs).outcome == outcome


@pytest.mark.parametrize(
    ("textures", "objects", "outcome"),
    [
        ((FEW, MANY), (MANY, FEW), "agrees"),
        ((MANY, FEW), (FEW, MANY), "disagrees"),
        ((FEW, MANY), (FEW, MANY), "disagrees"),
        ((FEW, MANY), (FEW, SPREAD), "inconclusive"),
    ],
)
def test_more_textures_and_fewer_objects_without_dropout_agree(textures, objects, outcome):
    names = ("dropout", "no dropout")
    counts = {}
    for name, texture, thing in zip(names, textures, objects, strict=True):
        total = [sum(both) for both in zip(texture, thing, strict=True)]
        counts |= {(name, "texture"): texture, (name, "object"): thing, (name, "total"): total}
    assert concluded("dropout", counts).outcome == outcome


@pytest.mark.parametrize(
    ("plain", "normalized", "outcome", "change"),
    [
        (MANY, FEW, "agrees", "changes them by -21 "),
        (FEW, MANY, "disagrees", "changes them by 21 "),
        (MANY, SPREAD, "inconclusive", "changes them by -11 "),
    ],
)
def test_fewer_detectors_with_batch_normalization_agree(plain, normalized, outcome, change):
    conclusion = concluded("batchnorm", {("plain", "total"): plain, ("batch norm", "total"): normalized})
    assert conclusion.outcome == outcome
    assert change in conclusion.finding


@pytest.mark.parametrize("condition", ["width", "depth"])
@pytest.mark.parametrize(
    ("least", "most", "outcome", "change"),
    [
        (FEW, MANY, "agrees", "From a to d they change by 21 "),
        (MANY, FEW, "disagrees", "From a to d they change by -21 "),
        (MANY, SPREAD, "inconclusive", "From a to d they change by -11 "),
    ],
)
def test_more_detectors_in_the_largest_network_than_in_the_smallest_agree(condition, least, most, outcome, change):
    courses = zip("abcd", (least, SPREAD, (20, 20, 20), most), strict=True)
    conclusion = concluded(condition, {(name, "total"): unique for name, unique in courses})
    assert conclusion.outcome == outcome
    assert change in conclusion.finding
    step = sum(most) / 3 - 20
    assert f"; of this {step:.3g} (" in conclusion.finding
