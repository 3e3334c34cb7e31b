"""Labelers: planted units have a known answer, and a table decides in each direction."""

import numpy as np
import polars as pl
import pytest

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.errors import ResultError
from netdissect.experiments.labelers.embedding_labels import embedding_labels
from netdissect.experiments.labelers.experiment import LABELERS, LabelersConfig, LabelersInputs, conclude, labelers
from netdissect.experiments.labelers.labeled_network import CORRELATION, FORMULA, LINEAR, RANDOM, LabeledNetwork
from netdissect.experiments.labelers.labeler_tables import IOU
from netdissect.experiments.labelers.simulations import SimulatedImages
from netdissect.models import Preprocessing
from netdissect.result import load_result
from netdissect.synthetic.planted import LAYER, PlantedUnit, planted_dataset, planted_network
from netdissect.training.two_towers.captions import word_of

CONFIG = LabelersConfig(dissect=DissectConfig(layers=("conv5",)))
NUMBERS = ("correlation", "difference", "recovered")


def row(labeler, correlation, difference=None, layer=None, units=40):
    """Return a row of the table; intervals reach 0.01 to both sides."""
    found = {"network": "net", "layer": layer, "labeler": labeler, "units": units}
    for name, value in zip(NUMBERS, (correlation, difference, None), strict=True):
        ends = (None, None) if value is None else (value - 0.01, value + 0.01)
        found |= {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}
    return found


def table(*rows):
    numbers = [f"{name}{end}" for name in NUMBERS for end in ("", "_low", "_high")]
    return pl.DataFrame(list(rows), schema_overrides=dict.fromkeys(numbers, pl.Float64) | {"layer": pl.String})


@pytest.mark.parametrize(
    ("difference", "outcome"), [(0.2, "agrees"), (-0.2, "disagrees"), (0.005, "inconclusive"), (-0.005, "inconclusive")]
)
def test_the_difference_of_linear_explanations_from_iou_labels_decides(difference, outcome):
    totals = [row(IOU, 0.3), row(LINEAR, 0.3 + difference, difference), row(RANDOM, 0.0, -0.3)]
    layers = [row(IOU, 0.3, layer="conv5"), row(LINEAR, 0.3 - difference, -difference, layer="conv5")]
    conclusion = conclude(table(*totals, *layers), CONFIG)
    assert conclusion.outcome == outcome
    assert f"Linear explanations less IoU labels: {difference:.3g} (95 % interval" in conclusion.finding


def test_few_units_decide_nothing():
    rows = [row(IOU, 0.3, units=2), row(LINEAR, 0.5, 0.2, units=2)]
    assert conclude(table(*rows), CONFIG).outcome == "inconclusive"


def pair(labeler, other, difference):
    return {
        "network": "net", "labeler": labeler, "other": other, "units": 40, "difference": difference,
        "difference_low": difference - 0.01, "difference_high": difference + 0.01,
    }  # fmt: skip


def test_the_best_labeler_is_named_only_if_each_difference_excludes_zero():
    totals = table(row(IOU, 0.3), row(LINEAR, 0.5, 0.2), row(RANDOM, 0.0, -0.3))
    far = pl.DataFrame([pair(IOU, LINEAR, -0.2), pair(IOU, RANDOM, 0.3), pair(LINEAR, RANDOM, 0.5)])
    assert f"Best is {LINEAR}, and each" in conclude(totals, CONFIG, extra={"pairs": far}).finding
    near = pl.DataFrame([pair(IOU, LINEAR, -0.005), pair(IOU, RANDOM, 0.3), pair(LINEAR, RANDOM, 0.5)])
    found = conclude(totals, CONFIG, extra={"pairs": near}).finding
    assert f"{LINEAR} is not told apart from {IOU}." in found


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Label ten units: eight of one concept and two of two concepts, of which formulas and linear terms know both."""
    folder = tmp_path_factory.mktemp("labelers")
    names = ("anvil", "bell", "crate", "drum", "easel", "funnel", "rim", "lid")
    mixed = (PlantedUnit("anvil", other="bell", share=1), PlantedUnit("drum", other="easel", share=1))
    units = (*map(PlantedUnit, names), *mixed)
    statistics = StatisticsConfig(bootstrap=0, permutations=0)
    protocol = Protocol(quantiles=(0.05,))
    dissect = DissectConfig(layers=(LAYER,), protocol=protocol, batch_size=20, statistics=statistics)
    data = planted_dataset(folder / "data", images=60, size=32, seed=1, unlabeled=0)
    network = LabeledNetwork(planted_network(units, 32), data, planted=[unit.concepts for unit in units])
    found = labelers([network], LabelersConfig(dissect=dissect), out=folder / "out")
    return found, load_result(next((folder / "out" / "runs").iterdir()))


def test_formulas_and_linear_explanations_recover_planted_units_and_single_labels_those_of_one_concept(planted):
    found, _ = planted
    units = found.extra_tables["units"].sort("unit")
    recovered = {name: units.filter(labeler=name)["recovered"].to_list() for name in units["labeler"].unique()}
    assert recovered[IOU] == [True] * 8 + [False] * 2
    assert recovered[FORMULA][8:] == [True] * 2
    assert recovered[LINEAR] == [True] * 10
    assert recovered[CORRELATION] == [True] * 8 + [False] * 2
    assert sum(recovered[RANDOM]) < 5
    totals = {row["labeler"]: row for row in found.table.filter(pl.col("layer").is_null()).iter_rows(named=True)}
    assert totals[IOU]["recovered"] == pytest.approx(0.8)
    assert totals[LINEAR]["correlation"] > totals[IOU]["correlation"] > 0.5 > abs(totals[RANDOM]["correlation"])


def test_correlations_are_those_of_numpy_on_the_held_out_images(planted):
    found, run = planted
    images = SimulatedImages.of(run, LAYER)
    units = found.extra_tables["units"].filter(labeler=IOU)
    for unit, label, correlation in units.select("unit", "label", "correlation").iter_rows():
        share = images.shares[images.held_out, images.names.index(label)].astype(float)
        expected = np.corrcoef(share, images.activations[images.held_out, unit].astype(float))[0, 1]
        assert correlation == pytest.approx(expected, rel=1e-9)


def test_a_formula_predicts_by_its_share_of_the_pixels(planted):
    found, run = planted
    images = SimulatedImages.of(run, LAYER)
    units = found.extra_tables["units"].filter(labeler=FORMULA, unit=8)
    assert units["label"][0] in ("anvil OR bell", "bell OR anvil")
    both = sum(images.shares[images.held_out, images.names.index(name)].astype(float) for name in ("anvil", "bell"))
    expected = np.corrcoef(both, images.activations[images.held_out, 8].astype(float))[0, 1]
    assert units["correlation"][0] == pytest.approx(expected, rel=1e-6)


class SharesOfConcepts:
    """Embeds images by their shares of the concepts, in index order, and each word by its concept."""

    name, digest, preprocessing = "shares", "", Preprocessing((8, 8), (0.5,) * 3, (0.25,) * 3)

    def __init__(self, names, shares):
        self.names, self.left = names, shares + 0.01

    def embed_images(self, pixels):
        """Take the next images."""
        rows, self.left = np.split(self.left, [len(pixels)])
        return rows

    def embed_words(self, words):
        """Know the concepts."""
        return np.eye(len(self.names))[[self.names.index(word) for word in words]]


def test_embedding_labels_are_the_most_similar_words_on_the_selection_half(planted):
    _, run = planted
    images, data = SimulatedImages.of(run, LAYER), ConceptData.open(run.info.data.root)
    shares, selection = images.shares.astype(float), ~images.held_out
    shares[images.held_out] = np.random.default_rng(0).random((images.held_out.sum(), shares.shape[1]))
    words = [word_of(name) for name in images.names]
    found = embedding_labels(run, data, SharesOfConcepts(words, shares))
    embedded = shares[selection] + 0.01
    cosines = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    for unit, label in found.select("unit", "label").iter_rows():
        activations = images.activations[selection, unit].astype(float)
        cubes = [(values - values.mean()) ** 3 for values in (activations, *cosines.T)]
        similar = [cubes[0] @ each / max(np.linalg.norm(each), 1e-3) for each in cubes[1:]]
        assert label == words[int(np.argmax(similar))]
    assert found["unit"].to_list() == list(range(10))
    assert (found["layer"] == LAYER).all()


@pytest.mark.parametrize(
    ("row", "message"), [("99,red,units", "labels unit 99 of units"), ("0,red,unit", "labels the layer 'unit'")]
)
def test_labels_of_units_that_there_are_not_are_refused_before_the_dissection(row, message, tmp_path):
    (tmp_path / "clip.csv").write_text(f"unit,label,layer\n{row}\n")
    data = planted_dataset(tmp_path / "data", images=4, size=32)
    config = LabelersConfig(dissect=DissectConfig(layers=(LAYER,)))
    network = planted_network([PlantedUnit("anvil"), PlantedUnit("bell")], 32)
    inputs = LabelersInputs(model=network, data=data, labels=(str(tmp_path / "clip.csv"),), config=config)
    with pytest.raises(ResultError, match=message):
        LABELERS.run(inputs, tmp_path / "out", None)
    assert not (tmp_path / "out" / "runs").exists()
