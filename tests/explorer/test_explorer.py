"""Responses of the explorer, compared with the tables of the runs and with an oracle that shares no code."""

import html
import io
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from torch import nn

import networks
import oracle
import run_asserts
from explorer_client import HOME, HOSTILE, LAYERS, QUANTILES, Pair, image_bytes
from generated_pages import GENERATE
from netdissect.config import RULES, NetworkSource
from netdissect.counted import counted
from netdissect.dissect import dissect
from netdissect.errors import ConfigError, NetworkError
from netdissect.explorer import create_app, guarded
from netdissect.explorer.inference import MAX_QUEUED
from netdissect.explorer.routes.explorer_state import Explorer
from netdissect.models import Network
from netdissect.report import urls
from netdissect.report.drawing.examples import find_examples
from netdissect.report.layer_tables import MIN_LISTED_IOU, concept_indices, number_runs
from netdissect.result import Result, compare_results
from netdissect.scoring.metrics import METRICS

RUN = "/api/runs/first-run"


def get(client: TestClient, address: str, **values: Any) -> Any:
    answer = client.get(address, params=values)
    assert answer.status_code == 200, answer.text
    return answer.json()


def explorer_of(client: TestClient) -> Explorer:
    found: Explorer = client.app._app.state.explorer  # type: ignore[attr-defined]
    return found


def test_runs_are_named_after_their_folders(client: TestClient, pair: Pair) -> None:
    runs = get(client, "/api/runs")
    assert [(run["id"], run["name"]) for run in runs] == [("first-run", "First run"), ("second", "second")]
    assert runs[0] == get(client, RUN)
    assert [layer["name"] for layer in runs[0]["layers"]] == LAYERS
    assert [layer["units"] for layer in runs[0]["layers"]] == [4, 5]
    assert runs[0]["quantiles"] == list(QUANTILES)


def test_two_folders_of_one_name_have_two_ids(pair: Pair) -> None:
    app = create_app([pair.results[0], pair.results[1]])
    with TestClient(guarded(app), base_url=HOME) as client:
        assert [run["id"] for run in get(client, "/api/runs")] == ["tiny", "tiny-2"]


@pytest.mark.parametrize("min_iou", [None, 0.0, 0.05, 0.3])
@pytest.mark.parametrize("quantile", [None, 0.02, 0.2, 0.05])
def test_counts_are_those_of_the_result_at_the_nearest_quantile(
    client: TestClient, pair: Pair, min_iou: float | None, quantile: float | None
) -> None:
    own = {None: 0.02, 0.05: 0.02}.get(quantile, quantile)
    for index, layer in enumerate(LAYERS):
        values = {"quantile": quantile, "min_iou": min_iou}
        found = get(client, f"{RUN}/layers/{index}/counts", **{k: v for k, v in values.items() if v is not None})
        assert found["quantile"] == own
        for shown, rule in zip(found["counts"], RULES, strict=True):
            (expected,) = [
                entry.count for entry in pair.results[0].detectors(rule, min_iou)
                if (entry.layer, entry.quantile) == (layer, own)
            ]  # fmt: skip
            assert (shown["rule"], shown["detectors"], shown["unique_detectors"]) == (
                rule, dict(expected.detectors), dict(expected.unique_detectors)
            )  # fmt: skip


def test_units_are_filtered_sorted_and_paged(client: TestClient, pair: Pair) -> None:
    table = pair.results[0].layers["deep_relu"].units.filter(quantile=0.02)
    address = f"{RUN}/layers/1/units"
    page = get(client, address)
    assert page["total"] == 5
    ious = [unit["iou"] for unit in page["units"]]
    assert ious == sorted(table["iou"].to_list(), reverse=True)
    assert [unit["unit"] for unit in get(client, address, sort="unit", limit=2, offset=3)["units"]] == [3, 4]
    label = page["units"][0]["label"]
    wanted = table.filter(pl.col("label") == label)["unit"].to_list()
    assert sorted(unit["unit"] for unit in get(client, address, q=label.upper())["units"]) == wanted
    assert [unit["unit"] for unit in get(client, address, q="#3")["units"]] == [3]
    of_part = table.filter(category="part")["unit"].to_list()
    assert sorted(unit["unit"] for unit in get(client, address, category="part")["units"]) == of_part
    detectors = get(client, address, state="detector", min_iou=0.05)["units"]
    assert sorted(unit["unit"] for unit in detectors) == table.filter(pl.col("iou") >= 0.05)["unit"].to_list()


def test_masks_change_with_the_quantile_and_labels_do_not(client: TestClient) -> None:
    address = f"{RUN}/layers/0/units"
    at_own, between = get(client, address), get(client, address, quantile=0.05)
    assert {key: value for key, value in at_own["masks"].items() if key != "note"} == {
        "quantile": 0.02, "measured": 0.02, "exact": 4, "units": 4,
    }  # fmt: skip
    assert "Measured by the run" in at_own["masks"]["note"]
    assert "Labels and counts remain those measured at 2 %." in between["masks"]["note"]
    assert (between["masks"]["quantile"], between["masks"]["measured"]) == (0.05, 0.02)
    assert [u["label"] for u in at_own["units"]] == [u["label"] for u in between["units"]]
    outlines = [[image["unit"] for unit in page["units"] for image in unit["top_images"]] for page in (at_own, between)]
    assert outlines[0] != outlines[1]
    assert "measured" in at_own["masks"]
    assert client.get(address, params={"quantile": 0.6}).status_code == 404


def test_a_unit_has_its_label_threshold_images_and_scores(client: TestClient, pair: Pair) -> None:
    layer = pair.results[0].layers["deep_relu"]
    own = layer.units.filter(quantile=0.02).sort("iou").row(-1, named=True)
    index = own["unit"]
    found = get(client, f"{RUN}/layers/1/units/{index}")
    unit, detail = found["summary"], found["detail"]
    assert (unit["label"], unit["iou"]) == (own["label"], own["iou"])
    assert found["threshold"] == {
        "value": own["threshold"], "low": own["threshold"], "high": own["threshold"], "exact": True,
    }  # fmt: skip
    assert [image["image"] for image in unit["top_images"]] == layer.top.filter(unit=index)["image"].to_list()
    listed = (pl.col("iou") >= MIN_LISTED_IOU) | (pl.col("concept") == own["label"])
    scores = layer.scores.filter(listed, quantile=0.02, unit=index).sort("iou", descending=True)
    assert [each["iou"] for each in detail["concepts"]] == scores["iou"].to_list()
    kept = layer.statistics["activation_range"].filter(unit=index).collect()
    shown = [image["image"] for band in detail["activation_range"][1:] for image in band["images"]]
    assert sorted(shown) == sorted(kept["image"]) != []
    maxima = layer.statistics["image_maxima"].collect().pivot("unit", index="image_index", values="max_activation")
    for similar in detail["similar_units"]:
        if similar["layer"] == "deep_relu":
            expected = np.corrcoef(maxima[str(index)], maxima[str(similar["unit"])])[0, 1]
            assert similar["correlation"] == pytest.approx(expected, abs=1e-5)
    assert detail["similar_units"]
    assert client.get(f"{RUN}/layers/1/units/5").status_code == 404


@pytest.mark.parametrize("quantile", [0.02, 0.2])
def test_a_unit_has_its_statistics_and_extra_metrics_as_in_the_report(
    client: TestClient, pair: Pair, quantile: float
) -> None:
    layer = pair.results[0].layers["deep_relu"]
    unit = layer.units.filter(quantile=quantile).sort("iou")["unit"][-1]
    found = get(client, f"{RUN}/layers/1/units/{unit}", quantile=quantile)
    (own,) = layer.statistics["units"].filter(quantile=quantile, unit=unit).collect().to_dicts()
    q_values = {"q_value_bh", "q_value_by"}  # there were fewer than 1,000 permutations
    statistics = found["summary"]["statistics"]
    assert statistics == {name: own[name] for name in own if own[name] is not None and name not in q_values}
    assert {"iou_ci_low", "stability", "heldout_iou", "p_value", "null_iou_p95"} <= statistics.keys()
    rows = {
        row["concept"]: row
        for row in layer.statistics["scores"].filter(quantile=quantile, unit=unit).collect().to_dicts()
    }
    names = [metric.name for metric in METRICS]
    assert found["detail"]["concepts"]
    for scores in found["detail"]["concepts"]:
        wanted = rows.get(scores["concept"], {})
        shown = {name: scores[name] for name in names if name in scores}
        assert shown == {name: wanted[name] for name in names if wanted.get(name) is not None}
    if quantile == 0.02:
        page = client.get(f"/r0/l1/u{unit}.html").text
        assert f">Permutation test</abbr>: p = {own['p_value']:.2g}" in page
        assert "Detectors at other quantiles" in client.get("/r0/l1/").text


def test_a_hostile_name_is_escaped(client: TestClient) -> None:
    page = get(client, "/api/concepts", q="<SCRIPT>")
    assert [each["concept"] for each in page["concepts"]] == [HOSTILE]
    found = get(client, "/api/concept", name=HOSTILE)
    assert found["concept"] == HOSTILE
    assert {each["run"] for each in found["runs"]} == {"first-run", "second"}
    for address in ("/", "/concepts/", f"/concepts/?q={HOSTILE}", "/r0/l0/", f"/r0/l0/?q={HOSTILE}", f"/{HOSTILE}"):
        page_text = client.get(address, headers={"accept": "text/html"}).text
        assert "<main" in page_text
        assert HOSTILE not in page_text


def test_concepts_are_found_over_runs_with_their_best_unit(client: TestClient, pair: Pair) -> None:
    concepts = get(client, "/api/concepts")["concepts"]
    assert {each["concept"] for each in concepts} == set(pair.results[0].concepts["concept"].cast(pl.String))
    for each in concepts:
        best = max(
            (iou, name, layer)
            for name, result in zip(("first-run", "second"), pair.results, strict=True)
            for layer, iou in result.scores.filter(
                pl.col("concept").cast(pl.String) == each["concept"], quantile=0.02
            ).select("layer", "iou").rows()
        )  # fmt: skip
        assert each["best_iou"] == best[0]
        detail = get(client, "/api/concept", name=each["concept"], category=each["category"], limit=200)
        ious = [unit["iou"] for unit in detail["units"]]
        assert ious == sorted(ious, reverse=True)
        assert (ious[0] if ious else 0) == best[0]
        assert sum(unit["detector"] for unit in detail["units"]) == each["detectors"]


def processed_image(client: TestClient, image_index: int) -> str:
    answer = client.post(f"{RUN}/images/{image_index}/inference")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize("layer", [0, 1])
def test_active_units_are_those_of_the_oracle(client: TestClient, pair: Pair, layer: int) -> None:
    name = LAYERS[layer]
    row = pair.results[0].layers[name].top["image_index"][0]
    image_id = processed_image(client, row)
    thresholds = pair.results[0].layers[name].thresholds.filter(quantile=0.2)["threshold"].to_list()
    upsampled = [
        oracle.upsample(cells, (12, 12), (24, 24), networks.FIELDS[name], "field") for cells in pair.maps[name][row]
    ]
    masks = [values > np.float32(threshold) for values, threshold in zip(upsampled, thresholds, strict=True)]
    found = get(client, f"{RUN}/inference/{image_id}/units", layer=layer, quantile=0.2)
    areas = {unit["summary"]["unit"]: unit["area"] for unit in found["units"]}
    assert areas == pytest.approx({unit: mask.mean() for unit, mask in enumerate(masks) if mask.any()})
    assert found["active"] == len(areas)
    for x, y in ((0.1, 0.2), (0.5, 0.5), (1, 0)):
        pixel = min(int(12 * y), 11), min(int(12 * x), 11)
        at = get(client, f"{RUN}/inference/{image_id}/units", layer=layer, quantile=0.2, at=f"{x},{y}")
        assert {unit["summary"]["unit"] for unit in at["units"]} == {
            unit for unit, mask in enumerate(masks) if mask[pixel]
        }
        for unit in at["units"]:
            assert unit["value"] == pytest.approx(upsampled[unit["summary"]["unit"]][pixel], rel=1e-5)


def test_active_units_are_ordered_by_rarity_and_grouped_by_label(client: TestClient, pair: Pair) -> None:
    image_id = processed_image(client, pair.results[0].layers["deep_relu"].top["image_index"][0])
    found = get(client, f"{RUN}/inference/{image_id}/units", layer=1, quantile=0.2)
    shares = [unit["share_above"] for unit in found["units"]]
    assert shares == sorted(shares)
    assert all(share < 0.2 for share in shares)
    by_label: dict[str, set[int]] = {}
    for unit in (each["summary"] for each in found["units"]):
        if unit["state"] == "detector":
            by_label.setdefault(unit["label"], set()).add(unit["unit"])
    assert {each["concept"]: set(each["units"]) for each in found["concepts"]} == by_label


def test_an_uploaded_image_gives_the_activations_of_the_network(client: TestClient, pair: Pair) -> None:
    data = image_bytes((24, 24))
    answer = client.post(f"{RUN}/inference", content=data, headers={"content-type": "image/png"})
    found = get(client, f"{RUN}/inference/{answer.json()['id']}/units", layer=0, quantile=0.2)
    pixels = np.asarray(Image.open(io.BytesIO(data))).transpose(2, 0, 1)[None].astype(np.float32)
    with torch.no_grad():
        module = pair.networks[0].module
        maps = module.wide_relu(module.wide(torch.from_numpy(np.ascontiguousarray(pixels - 127.5) / 128)))[0]
    assert found["units"]
    for unit in found["units"]:
        assert unit["value"] == pytest.approx(maps[unit["summary"]["unit"]].max().item(), rel=1e-5)


def test_the_last_processed_images_are_kept_for_their_run(client: TestClient, image: bytes) -> None:
    headers = {"content-type": "image/png"}
    names = [client.post(f"{RUN}/inference", content=image, headers=headers).json()["id"] for _ in range(17)]
    assert client.get(f"{RUN}/inference/{names[0]}/units").status_code == 404
    assert client.get(f"{RUN}/inference/{names[-1]}/units").status_code == 200
    assert client.get(f"/api/runs/second/inference/{names[-1]}/units").status_code == 404
    for wrong in ("0.5", "0.5,2", "-1,0", "0.5,0.5,0.5", "nan,0"):
        answer = client.get(f"{RUN}/inference/{names[-1]}/units", params={"at": wrong})
        assert answer.status_code == 422


def test_images_beyond_the_queue_are_refused(client: TestClient, image: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer_of(client).worker, "_queued", MAX_QUEUED + 1)
    answer = client.post(f"{RUN}/inference", content=image, headers={"content-type": "image/png"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@pytest.fixture
def without(pair: Pair, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """Ask an explorer of a run whose network is not given, with the source that the test names."""
    info = pair.results[0].info
    network = info.network.model_copy(update={"source": request.param})
    result = Result(info.model_copy(update={"network": network}), pair.results[0].concepts, pair.results[0].layers)
    with TestClient(guarded(create_app([result])), base_url=HOME) as client:
        yield client


@pytest.mark.parametrize(
    ("without", "reason"),
    [
        (None, "made in Python"),
        (NetworkSource(spec="python:os:abort"), "code that a file of others names is not run"),
        (NetworkSource(spec="/nowhere/net.safetensors"), "/nowhere/net.safetensors, which is not there any more"),
    ],
    indirect=["without"],
)
def test_the_reason_why_a_network_cannot_be_loaded_is_given(without: TestClient, reason: str, image: bytes) -> None:
    assert reason in get(without, "/api/runs/tiny")["inference_unavailable"]
    assert "Not for tiny: The network" in without.get("/").text
    answer = without.post("/api/runs/tiny/inference", content=image, headers={"content-type": "image/png"})
    assert (answer.status_code, reason in answer.json()["message"]) == (409, True)


class MovedSequential(nn.Sequential):
    """A class of another name: the same network, with another digest."""


def changed(network: Network, change: str) -> Network:
    if change == "weights":
        return networks.build(seed=7)
    if change == "preprocessing":
        return replace(network, preprocessing=replace(network.preprocessing, mean=(0.1, 0.1, 0.1)))
    children = dict(network.module.named_children())
    if change == "units":
        children |= {"deep": nn.Conv2d(4, 6, (3, 5), stride=2), "fc": nn.Linear(6 * 5 * 4, 3)}
    if change == "layer":
        children["last"] = children.pop("deep_relu")
    return replace(network, module=MovedSequential(OrderedDict(children)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("weights", r"on 4 of its top images the activations of .* differ from the recorded ones by up to"),
        ("preprocessing", "the same preprocessing"),
        ("units", r"its layer deep_relu has 6 units of 5 x 4 cells; the run's has 5 of 5 x 4"),
        ("layer", "is not the network of the run: .*deep_relu"),
    ],
)
def test_another_network_than_the_run_s_is_refused(pair: Pair, change: str, reason: str) -> None:
    with pytest.raises(NetworkError, match=reason):
        create_app(pair.folders[:1], network=changed(networks.build(seed=0), change))


def test_a_network_whose_class_was_renamed_is_taken_for_its_activations(pair: Pair, image: bytes) -> None:
    moved = changed(pair.networks[0], "class")
    assert moved.digest != pair.networks[0].digest
    with TestClient(guarded(create_app(pair.folders[:1], network=moved)), base_url=HOME) as client:
        assert get(client, RUN)["inference_unavailable"] is None
        answer = client.post(f"{RUN}/inference", content=image, headers={"content-type": "image/png"})
    assert answer.status_code == 201


def test_the_module_of_a_single_run_is_enough(pair: Pair, image: bytes) -> None:
    module = pair.networks[0].module
    with TestClient(guarded(create_app(pair.folders[0], network=module)), base_url=HOME) as client:
        answer = client.post(f"{RUN}/inference", content=image, headers={"content-type": "image/png"})
    assert answer.status_code == 201
    with pytest.raises(ConfigError, match=r"one network was given for 2 runs\. Expected network=\{'.*First run'"):
        create_app(pair.folders, network=module)


def test_a_network_for_no_run_is_an_error(pair: Pair) -> None:
    with pytest.raises(ConfigError, match="'third', which are not runs of this explorer"):
        create_app(pair.folders, network={"third": pair.networks[0]})
    with pytest.raises(ConfigError, match="no run was given"):
        create_app([])


def test_only_images_that_a_table_names_are_served(client: TestClient, pair: Pair) -> None:
    for row in range(30):
        answer = client.get(f"/images/0/{row}.webp")
        assert answer.status_code == (200 if row < 24 else 404)
        assert client.get(f"/images/0/{row}.js").status_code == answer.status_code
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/r0/../../run.json",
     "/r0/%2e%2e/run.json", "/images/0/..%2f0.webp", "/images/..%2f0/0.webp", "/static//etc/passwd"],
)  # fmt: skip
def test_nothing_outside_is_readable_by_a_path(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in {404, 422}
    assert "import" not in answer.text


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "a\\..\\..\\secret.png"])
def test_a_run_that_names_images_outside_its_data_shows_none_of_them(pair: Pair, name: str, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(pair.data / "secret.png")
    layers = {
        key: replace(layer, top=layer.top.with_columns(pl.lit(name).alias("image")), statistics={})
        for key, layer in pair.results[0].layers.items()
    }
    hostile = Result(pair.results[0].info, pair.results[0].concepts, layers)
    with TestClient(guarded(create_app([hostile])), base_url=HOME) as client:
        row = layers["wide_relu"].top["image_index"][0]
        assert client.get(f"/images/0/{row}.webp").status_code == 404
        assert client.post(f"/api/runs/tiny/images/{row}/inference").status_code == 404


def test_a_comparison_is_that_of_the_library(client: TestClient, pair: Pair) -> None:
    sides = {"left": "first-run", "right": "second", "left_layer": 1, "right_layer": 1}
    for quantile in QUANTILES:
        found = get(client, "/api/compare", **sides, quantile=quantile, min_iou=0.02)
        (expected,) = [
            each for each in compare_results(*pair.results, layers=[("deep_relu", "deep_relu")], min_iou=0.02)
            if each.quantile == quantile
        ]  # fmt: skip
        numbers = [
            {name: row[name] for name in row if not name.endswith(("_text", "url"))} for row in found["concepts"]
        ]
        assert numbers == expected.concepts.to_dicts()
        assert found["left"]["detectors"] == dict(expected.left.count.detectors)
        assert sum(found["changes"].values()) == len(expected.concepts)
        assert found["same_data"]
        assert found["sentences"] == list(expected.sentences)
        assert "right minus left: " in found["sentences"][-1]
    assert client.get("/api/compare", params={**sides, "quantile": 0.11}).status_code == 404


def matches(client: TestClient, **sides: Any) -> Any:
    return get(client, "/api/matches", **{"left": "first-run", "right": "second", **sides})


def test_units_are_matched_by_the_correlation_of_their_maxima(client: TestClient, pair: Pair) -> None:
    found = matches(client, left_layer=0, right_layer=1)
    assert found["images"] == pair.results[0].info.data.images == 24
    images = tuple(f"{row}.png" for row in range(24))
    one = pair.maps["wide_relu"].max(axis=(2, 3))
    other = run_asserts.hooked(pair.networks[1], pair.data, images, LAYERS, 4)["deep_relu"].max(axis=(2, 3))
    varying = [unit for unit in range(one.shape[1]) if np.ptp(one[:, unit]) > 0]
    assert sorted(each["left_unit"] for each in found["pairs"]) == varying
    assert found["unmatched"] == one.shape[1] - len(varying)
    for each in found["pairs"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            wanted = [np.corrcoef(one[:, each["left_unit"]], other[:, unit])[0, 1] for unit in range(5)]
        wanted = np.nan_to_num(wanted, nan=-1)
        assert each["correlation"] == pytest.approx(max(wanted), abs=1e-5)
        assert wanted[each["right_unit"]] == pytest.approx(max(wanted), abs=1e-5)


def test_a_layer_matched_with_itself_pairs_each_unit_with_itself(client: TestClient) -> None:
    pairs = matches(client, right="first-run")["pairs"]
    assert pairs
    assert all(each["left_unit"] == each["right_unit"] and each["mutual"] for each in pairs)
    assert all(each["correlation"] == pytest.approx(1) for each in pairs)


def test_units_of_runs_on_other_images_are_not_matched(pair: Pair) -> None:
    fewer = dissect(pair.networks[1], pair.data, layers="wide_relu", max_images=20, bootstrap=0, permutations=0)
    with TestClient(guarded(create_app([pair.folders[0], fewer])), base_url=HOME) as client:
        answer = client.get("/api/matches", params={"left": "first-run", "right": "tiny"})
        assert answer.status_code == 409
        assert "the runs used different images: 24 of" in answer.json()["message"]


@pytest.mark.parametrize(
    "address",
    ["/", "/r0/l0/", "/r0/l1/u4.html", "/concepts", "/image", "/compare", "/rate", "/about", "/index.html",
     "/r1/l1/index.html", "/r0/l0/u3.html?quantile=0.05", "/r0/l0/?quantile=0.05&min_iou=0.1&state=below&limit=1",
     "/concepts/index.html", "/concepts/c1.html", "/static/report.css", "/static/report.js", "/static/lib.js"],
)  # fmt: skip
def test_every_page_opens_without_inline_script(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200
    assert "<script>" not in answer.text.replace("&lt;script&gt;", "")
    assert " onclick" not in answer.text


@pytest.mark.parametrize(
    "address",
    ["/r7/l0/index.html", "/r0/l9/", "/r0/l0/u99.html", "/concepts/c99.html", "/images/7/0.webp", "/r0/nothing",
     "/nothing", "/r0/l0/?quantile=0.6"],
)  # fmt: skip
def test_a_missing_page_gives_status_404_as_a_page_with_links_or_as_json(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error", "message"}
    page = client.get(address, headers={"accept": "text/html,*/*"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert answer.json()["message"] in html.unescape(page.text)
    home = "../" * address.partition("?")[0][1:].count("/")
    assert f'<a href="{home}index.html">overview</a>' in page.text


def test_a_concept_has_the_examples_of_the_report(client: TestClient, pair: Pair) -> None:
    runs = number_runs(pair.results)
    data = runs[0].dataset
    assert data is not None
    every = find_examples(runs[0], data)
    name = next(name for name in runs[0].result.concepts["concept"] if name in every)
    page = client.get(f"/{urls.concept(concept_indices(runs)[name])}").text
    section = page.partition('<section id="examples"')[2].partition("</section>")[0]
    assert re.findall(r'src="../([^"]+)"', section) == [image.url for image in every[name]] != []


def test_a_page_and_its_json_show_the_same_units_masks_and_counts(client: TestClient) -> None:
    values = {"quantile": 0.05, "min_iou": 0.02, "sort": "unit", "limit": 3, "offset": 1}
    page = client.get("/r0/l1/", params=values).text
    found = get(client, f"{RUN}/layers/1/units", **values)
    assert re.findall(r'data-unit="(\d+)"', page) == [str(unit["unit"]) for unit in found["units"]] == ["1", "2", "3"]
    shown = re.findall(r'<path class="u m" d="([^"]*)"/></svg></span>', page)
    active = [unit for unit in found["units"] if unit["state"] != "dead"]
    assert shown == [image["unit"] for unit in active for image in unit["top_images"]] != []
    assert found["masks"]["note"] in page
    counts = get(client, f"{RUN}/layers/1/counts", quantile=0.05, min_iou=0.02)["counts"][0]
    assert f"<b>{counts['detectors']['total']}</b> of 5 units" in page
    assert f">{counted(counts['unique_detectors']['total'], 'unique detectors')}." in page
    unit = client.get("/r0/l1/u2.html", params={"quantile": 0.05}).text
    threshold = get(client, f"{RUN}/layers/1/units/2", quantile=0.05)["threshold"]["value"]
    assert f">threshold</abbr></dt><dd>{threshold:.6g}</dd>" in unit


def test_every_address_is_documented(client: TestClient) -> None:
    text = GENERATE.explorer_json()
    paths = client.get("/openapi.json").json()["paths"]
    assert "/api/concepts" in paths
    for path, operations in paths.items():
        for method in operations:
            assert f"\n## {method.upper()} {path}\n" in text
