"""What a mask can reach of a concept at best: against all masks that there can be, and on real images."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strategies
from netdissect.concepts.attainable_iou import mask_attainable_iou, max_attainable_iou
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.config import PROTOCOLS, REPORTED_QUANTILES, DissectConfig, Protocol, Restriction, StatisticsConfig
from netdissect.dissect import dissect
from networks import COVERAGE, SIDE, build, images


@given(
    sizes=st.lists(st.integers(1, 60), min_size=3, max_size=3),
    mask=st.integers(1, 60),
    restriction=st.sampled_from(["annotated", "none", "overlap"]),
)
def test_no_mask_of_its_size_reaches_more_and_one_reaches_it(
    sizes: list[int], mask: int, restriction: Restriction
) -> None:
    concept, annotated, pixels = np.cumsum(sizes)  # one within the other
    mask = min(mask, int(pixels))
    best = 0.0
    for inside in range(mask + 1):  # mask pixels on annotated images
        if inside > annotated or mask - inside > pixels - annotated:
            continue
        for both in range(min(inside, concept) + 1):
            # Under overlap a mask may leave every image out that it does not share with the concept.
            for counted in {"none": [mask], "annotated": [inside], "overlap": range(both, inside + 1)}[restriction]:
                best = max(best, both / (counted + concept - both))
    found = max_attainable_iou(concept, annotated, float(pixels), mask / pixels, restriction)
    assert float(found) == pytest.approx(best)


def test_a_concept_of_an_eighth_of_the_pixels_can_just_pass() -> None:
    assert float(max_attainable_iou(125, 1000, 1000, 0.005)) == pytest.approx(0.04)
    assert float(max_attainable_iou(0, 1000, 1000, 0.005)) == 0.0
    assert float(max_attainable_iou(5, 1000, 1000, 0.005)) == 1.0
    # In half of the images: all of the mask may lie there, and the concept may be twice as large a share of them.
    assert float(max_attainable_iou(125, 500, 1000, 0.005)) == pytest.approx(0.04)
    assert mask_attainable_iou([5, 0], [125, 0]).tolist() == [0.04, 0.0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images of which some have no object, and some no part."""
    drawn = images(10, sizes=((12, 12), (6, 8), (24, 24)))
    for index, one in enumerate(drawn):
        for plane in one.label_channels[index % 3 :: 3]:
            plane[:] = 0
    return strategies.write_broden(tmp_path / "broden", drawn, COVERAGE, image=(SIDE, SIDE))


def test_inspection_and_a_run_say_one_number_of_each_concept(root: Path) -> None:
    seen = {concept.label_id: concept for concept in inspect_dataset(root).concepts}
    config = DissectConfig(
        layers="wide_relu",
        protocol=Protocol(quantiles=REPORTED_QUANTILES),
        statistics=StatisticsConfig(bootstrap=0),
        batch_size=4,
    )
    run = dissect(build(), root, config=config)
    for row in run.concepts.iter_rows(named=True):
        assert row["max_attainable_iou"] == seen[row["label_id"]].max_attainable_iou
        assert row["max_attainable_iou_at_0.02"] == seen[row["label_id"]].max_attainable_iou_at_0_02
    scores = run.layers["wide_relu"].scores
    for quantile, column in zip(REPORTED_QUANTILES, ("max_attainable_iou", "max_attainable_iou_at_0.02"), strict=True):
        rows = scores.filter(quantile=quantile)
        assert dict(rows.select("label_id", "max_attainable_iou").rows()) == dict(
            run.concepts.select("label_id", column).rows()
        )
    assert (scores["iou"] <= scores["mask_attainable_iou"] + 1e-12).all()
    assert 0 < run.concepts["max_attainable_iou"].max() < 1


@pytest.mark.parametrize("name", ["lite", "pnas2020"])
def test_other_protocols_have_bounds_of_their_own(root: Path, name: str) -> None:
    config = DissectConfig(
        layers="wide_relu", protocol=PROTOCOLS[name], statistics=StatisticsConfig(bootstrap=0), batch_size=4
    )
    run = dissect(build(), root, config=config)
    quantile, side = config.protocol.quantiles[0], config.protocol.segmentation_size
    pixels = sum(side**2 if side else height * width for height, width in 4 * [(12, 12)] + 3 * [(6, 8), (24, 24)])
    for row in run.concepts.filter(run.concepts["pixel_share"] > 0).iter_rows(named=True):
        annotated = row["concept_pixels"] / row["pixel_share"]
        high = quantile * pixels if name == "pnas2020" else min(quantile * pixels, annotated)
        low = high if name == "pnas2020" else 0
        assert row["max_attainable_iou"] == pytest.approx(
            min(row["concept_pixels"], high) / max(row["concept_pixels"], low)
        )


def test_no_unit_of_a_real_network_reaches_more_than_a_tenth_above_what_is_attainable(shared: Path) -> None:
    """Of 184 street scenes a quarter has no object labels."""
    facts = inspect_dataset(shared / "data" / "broden-camvid").concepts
    attainable = {(concept.name, concept.category): concept.max_attainable_iou for concept in facts}
    reached = []
    with (shared / "reference" / "camvid-efficientnet_lite0_blocks.10-paper.csv").open() as file:
        for row in csv.DictReader(file):
            bound = attainable[row["concept"], row["category"]]
            reached.append(float(row["iou"]) / bound if bound else float(row["iou"]))
    assert 0.2 < max(reached) <= 1.1
