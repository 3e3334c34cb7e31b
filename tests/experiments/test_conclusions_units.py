"""What five experiments conclude from tables that are decided by hand: tasks, SVMs, raters, contributions, ablation."""

import numpy as np
import polars as pl
import pytest

from netdissect import DissectConfig, Protocol
from netdissect.experiments.ablate import experiment as ablate_experiment
from netdissect.experiments.ablate.experiment import AblateConfig
from netdissect.experiments.attribution import experiment as attribution_experiment
from netdissect.experiments.attribution.experiment import AttributionConfig
from netdissect.experiments.linear_probe import experiment as linear_probe_experiment
from netdissect.experiments.linear_probe.experiment import LinearProbeConfig
from netdissect.experiments.rater_agreement import experiment as rater_agreement_experiment
from netdissect.experiments.rater_agreement.experiment import RaterAgreementConfig
from netdissect.experiments.supervision import experiment as supervision_experiment
from netdissect.experiments.supervision.experiment import SupervisionConfig
from netdissect.training import TrainConfig

OPEN = "inconclusive"


def task_table(counts, nulls=None, **keys):
    """Return counts of one layer, quantile and rule: textures and all, by task and seed, and the null by task."""
    about = {"layer": "conv5", "quantile": 0.05, "rule": "per-category", "units": 64} | keys
    return pl.DataFrame(
        about
        | {"task": task, "seed": seed, "category": category, "unique_detectors": number}
        | {"null_unique_detectors": None if nulls is None else nulls[task]}
        for task, pairs in counts.items()
        for seed, pair in enumerate(pairs)
        for category, number in zip(("texture", "total"), pair, strict=True)
    )


def supervision_conclusion(*tables, tasks=("scene", "rotation")):
    measured = DissectConfig(layers=("conv4", "conv5"), protocol=Protocol(quantiles=(0.05, 0.01)))
    config = SupervisionConfig(tasks=tasks, train_config=TrainConfig(), seeds=3, dissect=measured)
    return supervision_experiment.conclude(pl.concat(tables), config)


SCENE = [(2, 20), (2, 21), (2, 20)]  # textures and all, by seed
FEWER_MORE_TEXTURES = [(4, 5), (4, 6), (4, 5)]


@pytest.mark.parametrize(
    ("scene", "rotation", "outcome"),
    [
        pytest.param(SCENE, FEWER_MORE_TEXTURES, "agrees", id="fewer, and more of them textures"),
        pytest.param(SCENE, [(9, 35), (9, 36), (9, 35)], "disagrees", id="more, and more of them textures"),
        pytest.param(SCENE, [(0, 5), (0, 6), (0, 5)], "disagrees", id="fewer, and none of them textures"),
        pytest.param(SCENE, [(1, 10), (1, 10), (1, 10)], OPEN, id="fewer, but as many textures"),
        pytest.param(SCENE, [(9, 20), (9, 21), (9, 20)], OPEN, id="more textures, but no fewer"),
        pytest.param(SCENE, [(3, 5), (15, 30), (10, 20)], OPEN, id="seeds apart"),
        pytest.param([(2, 20), (4, 40), (6, 60)], [(9, 10), (29, 30), (49, 50)], "agrees", id="pairs of a seed alike"),
    ],
)
def test_supervision_agrees_if_there_are_fewer_detectors_and_more_textures(scene, rotation, outcome):
    assert supervision_conclusion(task_table({"scene": scene, "rotation": rotation})).outcome == outcome


@pytest.mark.parametrize(
    ("nulls", "beyond", "outcome"),
    [
        ((1.0, 1.0), "-15 (", "agrees"),
        ((16.0, 1.0), "0 (95 % interval 0 to 0, n = 3)", OPEN),
        ((20.0, 1.0), "4 (", "disagrees"),
    ],
)
def test_supervision_compares_the_detectors_beyond_the_permutation_null(nulls, beyond, outcome):
    table = task_table(
        {"scene": [(2, 20), (2, 21), (2, 22)], "rotation": [(4, 5), (4, 6), (4, 7)]},
        dict(zip(("scene", "rotation"), nulls, strict=True)),
    )
    found = supervision_conclusion(table)
    assert found.outcome == outcome
    assert f"scene 21 ({nulls[0]:.3g} under the permutation null), rotation 6 (1 under" in found.finding
    assert f"beyond the permutation null: {beyond}" in found.finding


def test_supervision_is_decided_in_the_last_layer_at_the_first_quantile_by_the_rule_of_the_config():
    turned = {"scene": FEWER_MORE_TEXTURES, "rotation": SCENE}
    others = [task_table(turned, **keys) for keys in ({"layer": "conv4"}, {"quantile": 0.01}, {"rule": "top-label"})]
    found = supervision_conclusion(*others, task_table({"scene": SCENE, "rotation": FEWER_MORE_TEXTURES}))
    assert found.outcome == "agrees"
    assert "scene 20.3, rotation 5.33. The permutation null was not measured." in found.finding


def test_supervision_without_a_self_supervised_task_is_not_compared():
    table = task_table({"scene": SCENE, "random": FEWER_MORE_TEXTURES})
    assert supervision_conclusion(table, tasks=("scene", "random")).outcome == "not compared"


def probe_conclusion(accuracies, other=None, images=(10, 12), splits=(-0.2, 0.2)):
    """Conclude from layers with 1, 2, ... unique detectors; `other` are accuracies with C by cross-validation."""
    table = pl.DataFrame(
        {
            "network": f"net {unique}",
            "layer": "conv5",
            "unique_detectors": unique,
            "C_selection": selection,
            "accuracy": mean + off,
        }
        for selection, means in (("paper", accuracies), ("cross-validated", other or accuracies))
        for unique, mean in enumerate(means, 1)
        for off in splits
    )
    classes = pl.DataFrame({"class": ["bar", "farm"], "images": images})
    return linear_probe_experiment.conclude(table, LinearProbeConfig(), extra={"classes": classes})


RISING, FALLING = [0.4, 0.45, 0.5, 0.5, 0.55, 0.6], [0.6, 0.55, 0.5, 0.5, 0.45, 0.4]


@pytest.mark.parametrize(
    ("accuracies", "outcome"),
    [(RISING, "agrees"), (FALLING, "disagrees"), ([0.4, 0.6, 0.5, 0.5, 0.6, 0.4], OPEN), (RISING[:3], OPEN)],
)
def test_the_linear_probe_agrees_if_accuracy_rises_with_the_detectors(accuracies, outcome):
    assert probe_conclusion(accuracies).outcome == outcome


def test_the_linear_probe_is_decided_with_the_paper_s_penalty():
    found = probe_conclusion(FALLING, other=RISING)
    assert found.outcome == "disagrees"
    assert "6 layers, 2 classes" in found.finding


@pytest.mark.parametrize(("images", "outcome"), [((10, 90), "agrees"), ((9, 90), OPEN)])
def test_the_linear_probe_with_a_class_of_fewer_than_ten_images_is_inconclusive(images, outcome):
    assert probe_conclusion(RISING, images=images).outcome == outcome


def raters_conclusion(accepted, labels=20):
    """Conclude from layers with `labels` labels each, of which so many are accepted."""
    table = pl.DataFrame(
        {"layer": layer, "labels": labels, "accepted_share": count / labels}
        | dict.fromkeys(
            ("percent_agreement", "alpha", "alpha_ci_low", "alpha_ci_high", "auroc", "auroc_ci_low", "auroc_ci_high")
        )
        for layer, count in [*accepted.items(), (rater_agreement_experiment.ALL, 0)]
    )
    answers = pl.DataFrame(
        {"layer": layer, "accepted": number < count} for layer, count in accepted.items() for number in range(labels)
    )
    return rater_agreement_experiment.conclude(table, RaterAgreementConfig(), extra={"labels": answers})


@pytest.mark.parametrize(
    ("accepted", "outcome"),
    [
        ({"conv1": 4, "conv3": 0, "conv5": 16}, "agrees"),
        ({"conv1": 16, "conv3": 20, "conv5": 4}, "disagrees"),
        ({"conv1": 10, "conv3": 20, "conv5": 12}, OPEN),
        ({"conv5": 16}, "not compared"),
    ],
)
def test_raters_agree_if_the_last_layer_s_labels_are_accepted_more_than_the_first_s(accepted, outcome):
    assert raters_conclusion(accepted).outcome == outcome


def test_raters_conclusion_names_the_shares_and_the_change_from_first_to_last():
    finding = raters_conclusion({"conv1": 5, "conv5": 20}).finding
    assert "conv1 25% of 20, conv5 100% of 20." in finding
    assert "From conv1 to conv5 the share changes by 0.75 (" in finding


def attribution_conclusion(shares, images=2, **columns):
    """Conclude from so many images of each class; 30 % of all units are detectors, of the strongest `shares`."""
    each = pl.DataFrame(
        {"class": str(label), "share": 0.5, "units_for_half": 4, "detector_share": share}
        for label, share in enumerate(shares)
        for _ in range(images)
    )
    units = pl.DataFrame({"unit": range(10), "detector": [True] * 3 + [False] * 7})
    table = pl.DataFrame({"unit": [0]} | columns)
    return attribution_experiment.conclude(table, AttributionConfig(), extra={"images": each, "units": units})


@pytest.mark.parametrize(
    ("shares", "outcome"),
    [
        ([0.6, 0.8, 0.7], "agrees"),
        ([0.1, 0.0, 0.1], "disagrees"),
        ([0.1, 0.3, 0.6], OPEN),
        pytest.param([0.6, 0.8], OPEN, id="two classes, however many images"),
    ],
)
def test_attribution_agrees_if_the_strongest_units_are_detectors_more_often_than_all(shares, outcome):
    assert attribution_conclusion(shares, images=9, label=["tree"]).outcome == outcome


def test_attribution_without_a_dissection_is_not_compared():
    found = attribution_conclusion([0.6, 0.8, 0.7])
    assert found.outcome == "not compared"
    assert "On 6 images the 5 strongest units make 50% of" in found.finding


def ablation_conclusion(best, at_random, *, spread=0.0, images=10):
    """Conclude from two classes with so many images; half of the second class's are named as the first.

    The best four units cost `best`, by image up to `spread` more or less; the worst cost 1, all others 0.5.
    """
    labels, turn = np.repeat([0, 1], images), np.resize([-1, 1], 2 * images)
    drops = {"best": best + turn * spread, "worst": 1.0, "others": 0.5, "random": at_random}
    shown = {"label": labels, "predicted": labels * (turn > 0)}
    shown |= {kind: np.broadcast_to(drop, len(labels)) / len(labels) for kind, drop in drops.items()}
    config = AblateConfig(layer="conv5", sizes=(1, 4))
    return ablate_experiment.conclude(
        pl.DataFrame({"class": ["bar", "farm"]}), config, extra={"images": pl.DataFrame(shown)}
    )


@pytest.mark.parametrize(
    ("best", "at_random", "spread", "outcome"),
    [(0.4, 0.1, 0.2, "agrees"), (0.1, 0.4, 0.2, "disagrees"), (0.3, 0.2, 2.0, OPEN), (0.2, 0.2, 0.0, OPEN)],
)
def test_ablation_agrees_if_the_best_units_cost_more_than_as_many_at_random(best, at_random, spread, outcome):
    assert ablation_conclusion(best, at_random, spread=spread).outcome == outcome


@pytest.mark.parametrize(("images", "outcome"), [(5, "agrees"), (4, OPEN)])
def test_ablation_with_a_class_of_fewer_than_five_images_is_inconclusive(images, outcome):
    assert ablation_conclusion(0.4, 0.1, images=images).outcome == outcome


def test_ablation_s_conclusion_names_the_accuracy_and_every_drop():
    assert ablation_conclusion(0.4, 0.1).finding == (
        "Mean balanced accuracy of 2 classes is 0.750. Ablating the 4 units that matter most for a class costs "
        "0.400 (0.400 to 0.400), 4 at random 0.100 (0.100 to 0.100), the 4 that matter least 1.000 (1.000 to 1.000), "
        "all but the best 4 0.500 (0.500 to 0.500). Best less random: 0.300 (0.300 to 0.300); intervals by bootstrap "
        "over 20 images."
    )
