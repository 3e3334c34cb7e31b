"""A run of a generator in the explorer: its samples are drawn again, and drawn with units changed."""

from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect
from starlette.testclient import TestClient

import netdissect
import screenshots
from explorer_client import HOME, Pair, serving
from netdissect.errors import ConfigError
from netdissect.explorer import create_app, guarded
from netdissect.models import ActivationRecorder, resolve_layers
from netdissect.segmenters import load_segmenter
from netdissect.training import PaintSegmenter
from netdissect.training.generators.scene_generator import SceneGenerator
from scene_generators import PAINT, TINY, tiny_generator

RUN = "/api/runs/run"
VEHICLE = TINY.planted_units["vehicle"]
EMPTY = 3
"""A sample without a vehicle."""


@pytest.fixture(scope="module")
def generator_client(generator_run: Path) -> Iterator[TestClient]:
    app = create_app([generator_run], segmenter=load_segmenter(PAINT))
    with TestClient(guarded(app), base_url=HOME) as client:
        yield client


@pytest.fixture(scope="module")
def home(generator_run: Path) -> Iterator[str]:
    with serving(create_app([generator_run], segmenter=load_segmenter(PAINT))) as address:
        yield address


@pytest.fixture(scope="module")
def sample(generator_client: TestClient) -> str:
    """Address of a sample that was drawn."""
    answer = generator_client.post(f"{RUN}/images/{EMPTY}/inference")
    assert answer.status_code == 201, answer.text
    return f"{RUN}/inference/{answer.json()['id']}"


def test_a_sample_is_drawn_again_and_an_image_of_others_is_refused(
    generator_run: Path, generator_client: TestClient, image: bytes
) -> None:
    generator, unit, client = tiny_generator(), TINY.planted_units["vegetation"], generator_client
    top = netdissect.load_result(generator_run).layer("layer1").top.filter(unit=unit, rank=0).row(0, named=True)
    sample = torch.tensor([[0, int(Path(top["image"]).stem)]])
    with generator.prepared(), ActivationRecorder(generator, resolve_layers(generator, ["layer1"])) as record:
        expected = float(record(sample)["layer1"][0, unit].max())
    assert client.get("/").status_code == 200
    answer = client.post(f"{RUN}/images/{top['image_index']}/inference")
    assert answer.status_code == 201, answer.text
    address = f"{RUN}/inference/{answer.json()['id']}"
    shown = client.get(f"{address}/units", params={"layer": 0, "quantile": 0.02, "limit": 100}).json()
    values = {each["summary"]["unit"]: each["value"] for each in shown["units"]}
    assert values[unit] == pytest.approx(expected, rel=1e-5)
    assert np.isclose(top["max_activation"], expected, rtol=1e-5)
    ablated = client.post(f"{address}/ablation", json={"layer": 0, "units": [unit]})
    assert (ablated.status_code, "is a generator and has no classes" in ablated.json()["message"]) == (409, True)
    refused = client.post(f"{RUN}/inference", content=image, headers={"content-type": "image/png"})
    assert refused.status_code == 409
    assert "is a generator, which takes latents and no images" in refused.json()["message"]


def drawn(unit: int, cells: list[tuple[int, int]] | None, value: float, strength: float) -> npt.NDArray[np.uint8]:
    """Draw the sample with a unit moved towards a value, layer by layer."""
    generator, module = tiny_generator(), tiny_generator().module
    assert isinstance(module, SceneGenerator)
    scene, style, things = generator.latent_input.latents(torch.tensor([[0, EMPTY]]))
    with torch.no_grad():
        code = module.start(torch.cat([module.scene(scene), style], 1)).relu().unflatten(1, (-1, 8, 8))
        maps = module.layer1(torch.cat([code, things], 1))
        for row, column in cells or np.ndindex(16, 16):
            maps[0, unit, row, column] += strength * (value - maps[0, unit, row, column])
        return generator.pixels(module.layer3(module.layer2(maps)).tanh()).numpy()[0]


def pixels(address: str) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(b64decode(address.removeprefix("data:image/png;base64,")))))


@pytest.mark.parametrize(("how", "cells"), [("insert", [(2, 3), (2, 4), (9, 15)]), ("ablate", None), ("insert", None)])
def test_units_are_changed_in_some_cells_or_everywhere_at_each_strength(
    generator_run: Path, generator_client: TestClient, sample: str, how: str, cells: list[tuple[int, int]] | None
) -> None:
    unit = VEHICLE if how == "insert" else 0  # the first of the units that are trained is active nearly everywhere
    threshold = netdissect.load_result(generator_run).layer("layer1").thresholds.sort("unit")["threshold"][unit]
    body = {"units": [unit], "how": how, "strengths": [0, 0.5, 2], "cells": cells}
    answer = generator_client.post(f"{sample}/edit", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["cells"], found["grid"], found["mode"]) == (3 if cells else 256, [16, 16], "partial")
    before = pixels(found["before"]).astype(int)
    for strength, each in zip(body["strengths"], found["samples"], strict=True):
        after, expected = pixels(each["image"]), drawn(unit, cells, threshold if how == "insert" else 0.0, strength)
        assert np.abs(after.astype(int) - expected).max() <= 1
        change = np.abs(after - before).max(axis=2)
        assert (each["largest_change"], each["changed"]) == (change.max(), (change > 0).mean())
        assert np.abs(pixels(each["difference"])[..., 0] * (change.max() / 255) - change).max() <= 0.5
        maps = [PaintSegmenter().segment(each[None].astype(np.uint8))[0, 0] for each in (before, after)]
        for area in each["areas"]:
            label = ["vegetation", "building", "vehicle"].index(area["concept"]) + 1
            assert [area["before"], area["after"]] == [(labels == label).mean() for labels in maps]
        assert len(each["areas"]) == len({*np.unique(maps)} - {0})
    assert found["samples"][0]["largest_change"] == 0 < found["samples"][2]["largest_change"]


def test_the_detectors_of_a_concept_are_changed_together(generator_client: TestClient, sample: str) -> None:
    labels = generator_client.get(f"{RUN}/layers/0/units", params={"state": "detector", "limit": 50}).json()["units"]
    concept = labels[0]["label"]
    found = generator_client.post(f"{sample}/edit", json={"concept": concept}).json()
    assert found["units"] == sorted(each["unit"] for each in labels if each["label"] == concept)
    assert (found["concept"], [each["strength"] for each in found["samples"]]) == (concept, [1.0])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"units": [10]}, 404, "has no unit 10"),
        ({"units": [0], "cells": [[0, 16]]}, 404, "has no cell 0, 16: its maps have 16 rows of 16 cells"),
        ({"units": [0], "cells": []}, 422, "at least 1 item"),
        ({"units": [0], "strengths": [9]}, 422, "less than or equal to 8"),
        ({"units": [0], "how": "paint"}, 422, "'ablate' or 'insert'"),
        ({"concept": "unicorn"}, 404, "has no detector of 'unicorn'"),
        ({}, 409, "Expected one of both"),
    ],
)
def test_a_change_of_what_is_not_there_is_an_error(
    generator_client: TestClient, sample: str, body: dict[str, object], status: int, message: str
) -> None:
    answer = generator_client.post(f"{sample}/edit", json=body)
    assert (answer.status_code, message in answer.text) == (status, True), answer.text
    foreign = generator_client.post(f"{sample}/edit", json={"units": [0]}, headers={"origin": "http://evil.example"})
    assert foreign.status_code == 403


def test_a_network_that_takes_images_draws_none(client: TestClient, pair: Pair) -> None:
    row = pair.results[0].layers["deep_relu"].top["image_index"][0]
    image = client.post(f"/api/runs/first-run/images/{row}/inference").json()["id"]
    answer = client.post(f"/api/runs/first-run/inference/{image}/edit", json={"units": [0]})
    assert (answer.status_code, "takes images and draws none" in answer.json()["message"]) == (409, True)


def test_areas_are_left_out_if_the_segmenter_is_code_that_nobody_named(generator_run: Path) -> None:
    with TestClient(guarded(create_app([generator_run])), base_url=HOME) as client:
        image = client.post(f"{RUN}/images/{EMPTY}/inference").json()["id"]
        found = client.post(f"{RUN}/inference/{image}/edit", json={"units": [VEHICLE]}).json()
    assert (found["segmenter"], found["samples"][0]["areas"]) == (None, None)
    assert "code that a file of others names is not run" in found["segmenter_unavailable"]
    with pytest.raises(ConfigError, match=r"segmenters were given for 'other', which are not runs"):
        create_app([generator_run], segmenter={"other": load_segmenter(PAINT)})


@pytest.mark.browser
def test_a_unit_is_painted_into_a_sample_and_a_strip_shows_its_strengths(page: Page) -> None:
    page.goto("/image")
    expect(page.locator(".drop")).to_be_hidden()
    page.get_by_role("button", name=f"Sample {EMPTY}").click()
    expect(page.locator(".change")).to_be_visible()
    page.get_by_role("button", name="Brush").click()
    point = page.locator(".point")
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.3 * box["height"], steps=4)
    page.mouse.up()
    expect(page.locator(".cross")).to_be_hidden()
    painted = page.locator(".where").inner_text()
    page.keyboard.press("Tab")
    point.focus()
    for key in ("ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".where")).not_to_have_text(painted)
    page.select_option("select[name=chosen]", label="those listed here")
    page.get_by_label("Unit numbers").fill(f"{VEHICLE},x")
    page.get_by_label("insert").check()
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_role("alert")).to_contain_text("Expected numbers, such as 4, 17.")
    page.get_by_label("Unit numbers").fill(f"{VEHICLE}")
    page.get_by_role("button", name="Change").click()
    expect(page.locator("[data-part=change] p").first).to_contain_text(f"unit {VEHICLE} of layer1 in")
    areas = page.locator(".changed:visible .areas tbody tr")
    expect(areas).to_contain_text("vehicle")
    one = areas.first.inner_text()
    strengths = page.locator(".strengths button:enabled")
    assert strengths.all_inner_texts() == ["0.5", "1", "2", "4"]
    strengths.last.click()
    expect(page.locator(".changed:visible")).to_have_attribute("data-strength", "4")
    assert page.locator(".changed:visible").count() == 1
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        screenshots.keep(page, f"explorer-change-{width}")
    violations = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".where")).to_have_text("everywhere")
    page.get_by_role("button", name="Change").click()
    expect(areas.first).not_to_have_text(one)
    card = page.locator(".seen").first
    card.locator("button").first.click()
    chosen = page.locator("select[name=chosen] option:checked")
    assert chosen.get_attribute("value") == card.locator(".unit").get_attribute("data-unit")
