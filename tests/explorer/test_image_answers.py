"""What the explorer computes on one image: segments, evidence beside units, classes without units."""

import numpy as np
import pytest
from starlette.testclient import TestClient

import networks
import oracle
from explorer_client import HOME, LAYERS, Pair
from netdissect.concepts import ConceptData
from netdissect.dissect import dissect
from netdissect.experiments.ablate.predictions import Classifier, predictions
from netdissect.explorer import create_app, guarded
from netdissect.models.surgery.rotations import with_rotations
from netdissect.models.surgery.unit_ablation import unit_ablator
from netdissect.training import LabeledImages

RUN = "/api/runs/first-run"


@pytest.fixture
def address(client: TestClient, pair: Pair) -> str:
    """Address of a processed image of the data set."""
    row = pair.results[0].layers["deep_relu"].top["image_index"][0]
    return f"{RUN}/inference/{client.post(f'{RUN}/images/{row}/inference').json()['id']}"


def test_an_image_is_segmented_by_the_strongest_detector_of_the_oracle(
    client: TestClient, pair: Pair, address: str
) -> None:
    layer = pair.results[0].layers["deep_relu"]
    row = layer.top["image_index"][0]
    largest = dict(layer.thresholds.filter(quantile=0.2).select("unit", "max_activation").rows())
    strengths: dict[str, list[np.ndarray]] = {}
    for unit in layer.units.filter(quantile=0.2).to_dicts():
        if unit["iou"] < 0.01 or unit["label"] is None:
            continue
        cells = pair.maps["deep_relu"][row][unit["unit"]]
        values = oracle.upsample(cells, (12, 12), (24, 24), networks.FIELDS["deep_relu"], "field")
        own = (values.astype(np.float64) - unit["threshold"]) / (largest[unit["unit"]] - unit["threshold"])
        strengths.setdefault(unit["label"], []).append(np.where(values > np.float32(unit["threshold"]), own, 0))
    labels = list(strengths)
    best = np.stack([np.max(strengths[label], axis=0) for label in labels])
    shares = {label: ((best.argmax(0) == index) & (best[index] > 0)).mean() for index, label in enumerate(labels)}
    found = client.get(f"{address}/segmentation", params={"layer": 1, "quantile": 0.2}).json()
    assert found["layer_name"] == "deep_relu"
    assert {each["concept"]: each["share"] for each in found["segments"]} == pytest.approx(
        {label: shares[label] for index, label in enumerate(labels) if (best[index] > 0).any()}
    )
    assert found["unlabeled"] == pytest.approx((best.max(0) <= 0).mean())
    assert 0 < found["unlabeled"] < 1
    for form, start in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        assert client.get(found["figures"][form]).content.startswith(start)
    assert client.get(f"{address}/segmentation.pdf").status_code == 422


def test_active_units_have_their_evidence_beside_them(client: TestClient, pair: Pair, address: str) -> None:
    found = client.get(f"{address}/units", params={"layer": 1, "quantile": 0.2, "images": 2}).json()["units"]
    layer = pair.results[0].layers["deep_relu"]
    assert found
    for unit in (each["summary"] for each in found):
        own = layer.units.filter(quantile=0.2, unit=unit["unit"]).row(0, named=True)
        statistics = layer.statistics["units"].filter(quantile=0.2, unit=unit["unit"]).collect().row(0, named=True)
        assert (unit["iou"], unit["label"]) == (own["iou"], own["label"])
        for name in ("iou_ci_low", "iou_ci_high"):
            assert unit["statistics"][name] == statistics[name]
        top = layer.top.filter(unit=unit["unit"]).sort("rank").head(2)
        assert [image["image"] for image in unit["top_images"]] == top["image"].to_list()


@pytest.mark.parametrize("layer", [0, 1])
def test_classes_without_units_are_those_of_the_experiment(
    client: TestClient, pair: Pair, address: str, layer: int
) -> None:
    row, network = pair.results[0].layers["deep_relu"].top["image_index"][0], pair.networks[0]
    path = ConceptData.open(pair.data).image_path(row)
    images = LabeledImages(("a", "b", "c"), np.arange(3), (path,) * 3, as_stored=True)
    with network.prepared():
        classifier = Classifier(network, LAYERS[layer], unit_ablator(network, LAYERS[layer]))
        expected = predictions(classifier, images, [(), (0, 2)], 3)
    answer = client.post(f"{address}/ablation", json={"layer": layer, "units": [2, 0, 2]})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["units"], found["outputs"], found["mode"]) == ([0, 2], 3, classifier.ablator.mode)
    classes = sorted(found["classes"], key=lambda each: each["index"])
    for index, name in enumerate(("probability", "ablated_probability")):
        log_probabilities = [np.log(each[name]) for each in classes]
        assert log_probabilities == pytest.approx(expected.log_probabilities[index], abs=1e-6)
    assert found["classes"][0]["index"] == expected.predicted[0][0]
    assert classes[0]["probability"] != classes[0]["ablated_probability"]
    assert {each["name"] for each in classes} == {None}


def test_the_detectors_of_a_concept_are_ablated_together(client: TestClient, pair: Pair, address: str) -> None:
    units = pair.results[0].layers["deep_relu"].units.filter(quantile=0.02).sort("iou")
    label = units["label"][-1]
    own = units.filter((units["label"] == label) & (units["iou"] >= 0.01))["unit"].sort().to_list()
    found = client.post(f"{address}/ablation", json={"layer": 1, "concept": label, "classes": 1}).json()
    assert (found["units"], found["concept"]) == (own, label)
    assert 1 <= len(found["classes"]) <= 2


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"layer": 1, "units": [5]}, 404, "has no unit 5"),
        ({"layer": 1, "concept": "unicorn"}, 404, "has no detector of 'unicorn'"),
        ({"layer": 1}, 409, "Expected one of both"),
        ({"layer": 1, "units": [0], "concept": "unicorn"}, 409, "Expected one of both"),
        ({"layer": 7, "units": [0]}, 404, "has no layer 7"),
    ],
)
def test_an_ablation_of_what_is_not_there_is_an_error(
    client: TestClient, address: str, body: dict[str, object], status: int, message: str
) -> None:
    answer = client.post(f"{address}/ablation", json=body)
    assert (answer.status_code, message in answer.text) == (status, True)


def test_a_network_that_is_no_classifier_and_a_rotated_layer_are_errors(pair: Pair) -> None:
    network = networks.build(seed=0)
    del network.module.flat, network.module.fc
    layers = ["wide_relu", "deep_relu@rotation-0"]
    rotated = with_rotations(network, "deep_relu", [0])
    result = dissect(rotated, pair.data, layers=layers, permutations=0, max_images=6, progress=False)
    with TestClient(guarded(create_app(result, network=network.module)), base_url=HOME) as client:
        row = result.layers["wide_relu"].top["image_index"][0]
        image = client.post(f"/api/runs/tiny/images/{row}/inference").json()["id"]
        for layer, message in ((0, "Expected a classifier"), (1, "Choose deep_relu")):
            answer = client.post(f"/api/runs/tiny/inference/{image}/ablation", json={"layer": layer, "units": [0]})
            assert (answer.status_code, message in answer.text) == (409, True)
