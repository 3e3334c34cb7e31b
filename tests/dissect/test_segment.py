"""Images segmented by the detectors of a run, from the files that are written."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

import netdissect
from kept_runs import kept_run
from netdissect.concepts import ConceptData
from netdissect.dissect.image_maps import segment_by_units
from netdissect.dissect.segment import segmented_data
from netdissect.errors import ConceptsError, ConfigError, NetworkError, ResultError, SourceError
from netdissect.result.segmentation.composed_segmentation import ComposedSegmentation
from networks import build

__all__ = ["kept_run"]
OPTIONS = {"layer": "wide_relu", "quantile": 0.2, "bootstrap": 50, "figures": 2}


@pytest.fixture(scope="module")
def made(kept_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("segmented") / "out"
    return netdissect.segment(kept_run, kept_run.info.data.root, out=out, network=build(), **OPTIONS)


def pixel_sets(made, data):
    """Return by label id the pixels of segments, of labels, and the images annotated in its category, from files."""
    segments, labels, annotated = {}, {}, {}
    categories = {concept.label_id: concept.category for concept in data.concepts}
    for index, name in enumerate(made.images["label_map"]):
        with Image.open(made.folder / "label_maps" / name) as image:
            ids = np.asarray(image).astype(int) @ (1, 256, 0)
        one = data.labels(index)
        for y, x in np.ndindex(ids.shape):
            if ids[y, x]:
                segments.setdefault(int(ids[y, x]), set()).add((index, y, x))
            for label_id in {*one.label_channels[:, y, x].tolist(), *one.image_level.tolist()} - {0}:
                labels.setdefault(label_id, set()).add((index, y, x))
                annotated.setdefault(categories[label_id], set()).add(index)
    return segments, labels, {label_id: annotated[category] for label_id, category in categories.items()}


def test_ious_are_those_of_sets_of_pixels_of_the_written_label_maps(made, kept_run):
    data = ConceptData.open(kept_run.info.data.root)
    segments, labels, annotated = pixel_sets(made, data)
    ious = {}
    for row in made.concepts.iter_rows(named=True):
        label_id = row["label_id"]
        segment = {cell for cell in segments.get(label_id, set()) if cell[0] in annotated[label_id]}
        ious[label_id] = len(segment & labels[label_id]) / len(segment | labels[label_id])
        assert row["iou"] == ious[label_id]
        assert row["segment_pixels"] == len(segment)
    assert set(ious) == set(labels)
    detected = set(made.legend["label_id"])
    assert detected
    rows = {(row.segments, row.concepts): row for row in made.summary.miou}
    assert rows["detectors", "all"].miou == pytest.approx(np.mean(list(ious.values())))
    assert rows["detectors", "detected"].miou == pytest.approx(np.mean([ious[each] for each in detected]))
    frequent = max(detected, key=lambda label_id: len(labels[label_id]))
    pixels = sum(12 * 12 if index % 2 == 0 else 6 * 8 for index in annotated[frequent])
    constant = len(labels[frequent]) / pixels / len(ious)
    assert rows["most frequent concept", "all"].miou == pytest.approx(constant)
    for row in made.summary.miou:
        assert row.ci_low < row.ci_high
        if row.segments != "detectors":
            assert row.difference == pytest.approx(rows["detectors", row.concepts].miou - row.miou)
    assert made.summary.same_images
    assert len(list((made.folder / "figures").iterdir())) == 2
    assert not (made.folder / "work").exists()


def test_an_interrupted_pass_resumes_with_the_next_block(made, kept_run, tmp_path, monkeypatch):
    monkeypatch.setattr(segmented_data, "BLOCK", 16)

    def stop(_stage, done, _total):
        if done > 24:
            raise KeyboardInterrupt

    seen = []

    def note(_stage, done, total):
        seen.append((done, total))

    call = {"out": tmp_path / "out", "network": build(), **OPTIONS}
    with pytest.raises(KeyboardInterrupt):
        netdissect.segment(kept_run, kept_run.info.data.root, progress=stop, **call)
    again = netdissect.segment(kept_run, kept_run.info.data.root, progress=note, **call)
    assert seen == [(24, 40), (32, 40), (40, 40)]
    for name in ("legend.csv", "images.csv", "concepts.csv", "segmentation.json"):
        assert (again.folder / name).read_bytes() == (made.folder / name).read_bytes()
    for name in made.images["label_map"]:
        path = f"label_maps/{name}"
        assert (again.folder / path).read_bytes() == (made.folder / path).read_bytes()


def test_finished_segmentations_are_returned_and_others_are_refused(made, kept_run):
    call = {"out": made.folder, **OPTIONS}
    again = netdissect.segment(kept_run, kept_run.info.data.root, **call)  # without the network: nothing is run
    assert again.summary == made.summary
    assert again.concepts.equals(made.concepts)
    assert np.array_equal(again.label_map(3), made.label_map(3))
    with pytest.raises(ResultError, match="holds segmentations of other images"):
        netdissect.segment(kept_run, kept_run.info.data.root, **call | {"quantile": 0.05})
    with pytest.raises(ResultError, match="there is no image 40"):
        again.label_map(40)
    with pytest.raises(ResultError, match="holds no finished segmentations"):
        ComposedSegmentation.open(made.folder / "label_maps")


def test_an_image_has_the_segments_of_its_figure(made, kept_run, tmp_path):
    path = tmp_path / "photo.png"
    Image.effect_noise((31, 20), 90).convert("RGB").save(path)
    one = netdissect.segment(kept_run, path, out=tmp_path / "one", network=build(), figure_format="svg", **OPTIONS)
    with Image.open(path) as image:
        shown = segment_by_units(kept_run, image, ["wide_relu"], quantile=0.2, network=build())["wide_relu"]
    ids = dict(one.legend.select("concept", "label_id").rows())
    expected = np.array([0, *(ids[segment.concept] for segment in shown.segments)])[shown.labels + 1]
    assert np.array_equal(one.label_map(0), expected)
    assert (tmp_path / "one" / "figures" / "photo.svg").read_text().startswith("<?xml")
    assert (one.summary.miou, len(one.concepts)) == ((), 0)
    assert one.summary.covered == (expected > 0).mean()


@pytest.fixture
def photos(tmp_path):
    for name in ("b.png", "sub/a.png", "sub/a.bmp"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((31, 20), 90).convert("RGB").save(path)
    return tmp_path / "photos"


def test_each_image_of_a_folder_is_segmented_as_alone(kept_run, photos, tmp_path):
    call = {"network": build(), **OPTIONS}
    made = netdissect.segment(kept_run, photos, out=tmp_path / "all", **call)
    assert made.images["image"].to_list() == ["b.png", "sub/a.bmp", "sub/a.png"]
    assert made.images["label_map"].to_list() == ["b.png.png", "sub/a.bmp.png", "sub/a.png.png"]
    for index, name in enumerate(made.images["image"]):
        alone = netdissect.segment(kept_run, photos / name, out=tmp_path / str(index), **call)
        assert np.array_equal(made.label_map(index), alone.label_map(0))
        assert made.images["covered"][index] == alone.summary.covered
    drawn = sorted(path.relative_to(made.folder).as_posix() for path in made.folder.glob("figures/**/*.png"))
    assert drawn == ["figures/b.png.png", "figures/sub/a.png.png"]
    assert (made.summary.images, made.summary.miou, len(made.concepts)) == (3, (), 0)
    first = netdissect.segment(kept_run, photos, out=tmp_path / "first", max_images=2, **call)
    assert first.images.equals(made.images.head(2).with_columns(label_map=pl.Series(["b.png", "sub/a.png"])))


def test_a_folder_of_images_resumes_with_the_next_image(kept_run, photos, tmp_path):
    seen = []

    def stop(_stage, done, _total):
        seen.append(done)
        if done == 2:
            raise KeyboardInterrupt

    call = {"out": tmp_path / "out", "network": build(), **OPTIONS}
    with pytest.raises(KeyboardInterrupt):
        netdissect.segment(kept_run, photos, progress=stop, **call)
    first = tmp_path / "out" / "label_maps" / "b.png.png"
    written = first.stat().st_mtime_ns
    made = netdissect.segment(kept_run, photos, **call)
    assert first.stat().st_mtime_ns == written
    assert made.summary.images == 3
    assert not (tmp_path / "out" / "work").exists()


def test_a_folder_above_a_data_set_is_not_taken_for_images(kept_run, photos, tmp_path):
    (photos / "sub" / "index.csv").write_text("image\n")
    with pytest.raises(ConceptsError, match="sub is one"):
        netdissect.segment(kept_run, photos, out=tmp_path / "out", network=build())
    (photos / "sub" / "index.csv").unlink()
    with pytest.raises(ConceptsError, match="it holds images, but no index"):
        netdissect.segment(kept_run, photos, out=tmp_path / "out", network=build(), split="val")


def test_shuffled_labels_of_one_concept_are_its_own_and_without_replicates_there_are_no_intervals(kept_run, tmp_path):
    layer = kept_run.layers["wide_relu"]
    units = layer.units.with_columns(label=pl.lit("concept 2"), category=pl.lit("part"))
    relabeled = replace(kept_run, layers={"wide_relu": replace(layer, units=units)})
    made = netdissect.segment(
        relabeled, kept_run.info.data.root, out=tmp_path / "out", network=build(),
        layer="wide_relu", quantile=0.2, bootstrap=0, figures=0,
    )  # fmt: skip
    rows = {(row.segments, row.concepts): row for row in made.summary.miou}
    own, shuffled = (rows[kind, "detected"] for kind in ("detectors", "shuffled labels"))
    assert made.legend.height == own.number == 1
    assert shuffled.miou == pytest.approx(own.miou)
    assert own.miou == made.concepts.filter(concept="concept 2")["iou"][0] > 0
    assert all(row.ci_low is None for row in rows.values())


def test_what_cannot_be_segmented_is_refused(kept_run, tmp_path):
    root, out, image = kept_run.info.data.root, tmp_path / "out", tmp_path / "photo.png"
    image.write_bytes(b"no image")
    cases = (
        ({"layer": "wide"}, ResultError, "the run has no layer 'wide'"),
        ({"quantile": 0.3}, ResultError, "the run has no quantile 0.3"),
        ({"categories": "shape"}, ConfigError, "the run has no category 'shape'"),
        ({"source": tmp_path / "nothing"}, ConceptsError, "there is no such folder"),
        ({"source": image, "network": build()}, SourceError, "cannot be read as an image"),
        ({}, NetworkError, "made in Python, and its source is not recorded"),
        ({"network": build(seed=1)}, NetworkError, "is not the network of the run"),
    )
    for number, (options, error, message) in enumerate(cases):
        call = {"source": root, "out": out / str(number), "layer": "wide_relu", **options}
        with pytest.raises(error, match=message):
            netdissect.segment(kept_run, call.pop("source"), **call)


def test_a_run_without_detectors_is_refused(kept_run, tmp_path):
    limit = kept_run.info.config.model_copy(update={"min_iou": 1.0})
    run = netdissect.Result(kept_run.info.model_copy(update={"config": limit}), kept_run.concepts, kept_run.layers)
    with pytest.raises(ResultError, match="has no detector at the quantile"):
        netdissect.segment(run, run.info.data.root, out=tmp_path / "out")
    assert isinstance(run.concepts, pl.DataFrame)
