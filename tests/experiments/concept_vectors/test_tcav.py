"""TCAV by finite differences and by loops, a planted dependence, random images in a concept's place, and refusals."""

import numpy as np
import polars as pl
import pytest
import scipy.stats
import torch

from drawn_codes import drawn_concepts
from netdissect.errors import ConfigError, NetworkError
from netdissect.experiments.concept_vectors.class_gradients import check_classifier, score_gradients
from netdissect.experiments.concept_vectors.class_tests import OutputClasses
from netdissect.experiments.concept_vectors.experiment import tcav_text
from netdissect.experiments.concept_vectors.tcav import (
    ClassGradients,
    LayerCells,
    TcavConfig,
    concept_scores,
    draw_sets,
    t_test,
    tcav_rows,
    with_adjusted,
)
from netdissect.models import Network, Preprocessing, resolve_layers

CONFIG = TcavConfig(random_sets=40, examples=5)


def network(*modules):
    return Network("tiny", torch.nn.Sequential(*modules), Preprocessing((10, 10), (0.5,) * 3, (0.25,) * 3))


def pooled(inputs, classes):
    return torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(inputs, classes)


def test_gradients_of_all_layers_are_those_of_finite_differences():
    torch.manual_seed(0)
    parts = (torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(inplace=True), torch.nn.Conv2d(4, 5, 3), torch.nn.Tanh())
    tiny = network(*parts, *pooled(5, 3))
    tiny.module.double()
    layers = resolve_layers(tiny, ["0", "2"])
    images = torch.randn(2, 3, 10, 10, dtype=torch.float64)
    found = score_gradients(tiny, layers, images, 1)
    assert found.shape == (2, 9)
    for index, (layer, unit) in enumerate([*(("0", unit) for unit in range(4)), *(("2", unit) for unit in range(5))]):
        scores = []
        for step in (1e-6, -1e-6):
            change = torch.zeros(1, 4 if layer == "0" else 5, 1, 1, dtype=torch.float64)
            change[0, unit] = step
            hook = tiny.module.get_submodule(layer).register_forward_hook(lambda _m, _i, out, by=change: out + by)
            with torch.no_grad():
                scores.append(tiny.module(images)[:, 1].numpy())
            hook.remove()
        np.testing.assert_allclose(found[:, index], (scores[0] - scores[1]) / 2e-6, rtol=1e-5, atol=1e-7)


def drawn_cells(labels, units=6):
    """Concept 0 raises unit 0, concept 2 unit 1; the other units are noise."""
    present = labels.concepts.toarray()
    cells = np.random.default_rng(3).normal(size=(len(present), units)).astype(np.float32)
    cells[:, 0] += 4 * present[:, 0]
    cells[:, 1] += 4 * present[:, 2]
    return cells


def test_scores_and_p_values_are_those_of_one_vector_after_another():
    labels = drawn_concepts()
    cells, rng = drawn_cells(labels), np.random.default_rng(5)
    gradients = [rng.normal(size=(7, 6)), rng.normal(size=(4, 6)) + 0.5]
    found = dict(concept_scores(LayerCells("0", cells, labels), gradients, CONFIG, seed=9))
    assert sorted(found) == [0, 1, 2, 3]  # concept 4 has no cells
    again, rows = np.random.default_rng((9, 0)), np.flatnonzero(labels.annotated[:, 0])
    against, one, other = (draw_sets(again, labels.image_index, rows, (40, 5)) for _ in range(3))
    first = np.flatnonzero(labels.labels_of(0))
    with_concept = np.unique(labels.image_index[first])
    null_images = again.choice(np.unique(labels.image_index[rows]), len(with_concept), replace=False)
    null = draw_sets(again, labels.image_index, rows[np.isin(labels.image_index[rows], null_images)], (40, 5))
    own = draw_sets(again, labels.image_index, first, (40, 5))
    for name, positives, negatives in (("concept", own, against), ("null", null, against), ("random", one, other)):
        for index in range(40):
            vector = cells[positives[index]].mean(axis=0) - cells[negatives[index]].mean(axis=0)
            for of_class in (0, 1):
                derivatives = [float(gradient @ vector) for gradient in gradients[of_class]]
                share = sum(value > 0 for value in derivatives) / len(derivatives)
                assert getattr(found[0], name)[index, of_class] == pytest.approx(share, abs=1e-12)
    expected = scipy.stats.ttest_ind(found[0].concept, found[0].random).pvalue
    np.testing.assert_allclose(t_test(found[0].concept, found[0].random), expected, rtol=1e-9)


def test_sets_draw_images_equally_often_whatever_their_number_of_cells():
    image_index, rows = np.repeat([3, 5, 8], [2, 90, 1]), np.arange(1, 93)
    drawn = draw_sets(np.random.default_rng(0), image_index, rows, (400, 10))
    assert set(np.unique(drawn)) <= set(rows)
    assert np.bincount(image_index[drawn].ravel())[[3, 5, 8]] / 4000 == pytest.approx(1 / 3, abs=0.03)
    assert len(np.unique(drawn)) == 92


def test_scores_that_do_not_vary_are_equal_or_certainly_different():
    same = np.ones((5, 1))
    assert t_test(same, same).tolist() == [1]
    assert t_test(same, 0 * same).tolist() == [0]


@pytest.fixture(scope="module")
def planted():
    """A classifier whose class 0 depends on unit 0 alone, and class 1 on unit 5."""
    torch.manual_seed(1)
    tiny = network(torch.nn.Conv2d(3, 6, 3), torch.nn.Tanh(), *pooled(6, 2))
    with torch.no_grad():
        tiny.module[-1].weight.copy_(torch.eye(6)[[0, 5]])
    gradients = [score_gradients(tiny, resolve_layers(tiny, ["0"]), torch.randn(8, 3, 10, 10), k) for k in (0, 1)]
    labels = drawn_concepts()
    data = type("Data", (), {"concepts": [type("C", (), {"name": f"c{n}", "category": "k"}) for n in range(5)]})
    of_classes = [ClassGradients(f"class {k}", each) for k, each in enumerate(gradients)]
    table = with_adjusted(tcav_rows(LayerCells("0", drawn_cells(labels), labels), data, of_classes, CONFIG, 1))
    return {(row["class"], row["concept"]): row for row in table.iter_rows(named=True)}, table


def test_a_class_depends_on_its_planted_concept_and_on_no_other(planted):
    rows, _ = planted
    assert len(rows) == 8
    own = rows["class 0", "c0"]
    assert own["tcav"] > 0.99
    assert own["adjusted_p_value"] < 1e-4
    assert own["images"] == 8
    others = [row for key, row in rows.items() if key != ("class 0", "c0")]
    assert all(row["adjusted_p_value"] > 0.05 for row in others), others
    assert all(0.2 < row[name] < 0.8 for row in others for name in ("tcav", "null_tcav", "random_tcav"))
    assert 0.2 < own["null_tcav"] < 0.8


def test_the_conclusion_counts_the_pairs_that_differ(planted):
    text = tcav_text(planted[1])
    assert "0 1 of 8, and 0 with random images in place of the concept's" in text
    assert "most distant: c0 for class 0 with 1.00 (random sets 0." in text
    assert "Random images" not in text
    passing = planted[1].with_columns(null_adjusted_p_value=pl.lit(0.01))
    assert "Random images pass this test in 8 of 8 pairs: a class need not depend" in tcav_text(passing)
    assert tcav_text(planted[1].clear()) == "TCAV: no concept has enough images."


def test_p_values_are_adjusted_for_all_tests():
    table = pl.DataFrame({"p_value": [0.01, 0.6], "null_p_value": [0.5, 0.02]})
    assert with_adjusted(table)["adjusted_p_value"].to_list() == [0.02, 1]
    assert with_adjusted(table)["null_adjusted_p_value"].to_list() == [1, 0.04]


def test_a_network_without_classes_or_gradients_is_refused():
    class Frozen(torch.nn.Module):
        def forward(self, images):
            return images.detach().mean(dim=(2, 3))

    for modules, words in (
        ((torch.nn.Conv2d(3, 4, 3),), r"returns \(1, 4, 8, 8\), so that there is no class"),
        ((torch.nn.Conv2d(3, 4, 3), Frozen()), "have no gradient in its layers"),
    ):
        tiny = network(*modules)
        with pytest.raises(NetworkError, match=words):
            check_classifier(tiny, resolve_layers(tiny, ["0"]))
    features = network(torch.nn.Conv2d(3, 4, 3), *pooled(4, 3))
    features.module.num_classes = 0
    with pytest.raises(NetworkError, match="features, so that there is no class"):
        check_classifier(features, resolve_layers(features, ["0"]))


def test_classes_are_named_or_counted_and_unknown_ones_refused():
    tiny = network(torch.nn.Conv2d(3, 4, 3), *pooled(4, 3))
    layers = resolve_layers(tiny, ["0"])

    def asked(*classes, names=("cat", "dog", "cow")):
        return OutputClasses.of(tiny, layers, TcavConfig(random_sets=2, target_classes=classes), names)

    assert asked("dog", "0").asked == (1, 0)
    assert asked("2", names=None) == (("0", "1", "2"), (2,))
    with pytest.raises(ConfigError, match=r"no class 'dgo'\. Did you mean dog\?"):
        asked("dgo")
    with pytest.raises(ConfigError, match="2 names are given for 3 outputs"):
        asked(names=("cat", "dog"))


def test_options_that_test_nothing_are_refused():
    with pytest.raises(ConfigError, match="names classes, and nothing is tested"):
        TcavConfig(target_classes=("dog",)).check()
    with pytest.raises(ConfigError, match="--tcav 1 gives one score"):
        TcavConfig(random_sets=1).check()
    assert (TcavConfig().check(), TcavConfig(random_sets=2).check()) == (False, True)
