"""Data sets from images without labels: what is written, resumed, compared and refused."""

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from netdissect.concepts import ConceptData, Size
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.machine_masks import MachineMasks, read_machine_masks
from netdissect.errors import ConceptsError, SegmenterError, SourceError
from netdissect.segmenters import MachineLabelOptions, Segmenter, load_segmenter, segment_dataset
from netdissect.segmenters import segment_images as segmenting
from netdissect.segmenters.quadrants import quadrant_maps
from netdissect.synthetic import write_synthetic

PLAIN = MachineLabelOptions(write=WriteOptions(size=64, image_format="png"), batch_size=4)


@pytest.fixture(scope="module")
def made(trained: Segmenter, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> ConceptData:
    out = tmp_path_factory.mktemp("made") / "data"
    segment_dataset(out, photos, trained, PLAIN)
    return ConceptData.open(out)


def masks_of(data: ConceptData, row: int) -> dict[str, np.ndarray]:
    labels = data.labels(row)
    found = {c.name: (labels.label_channels == c.label_id).any(0) for c in data.concepts}
    return {name: mask for name, mask in found.items() if mask.any()}


def test_the_data_set_has_the_label_maps_of_the_segmenter(made: ConceptData, trained: Segmenter, photos: Path) -> None:
    files = [*(f"{index}.png" for index in range(6)), "more/wide.png"]
    assert [row.image for row in made.rows] == [f"{photos.name}/{name}" for name in files]
    for row, name in enumerate(files):
        image = Image.open(photos / name).resize((64, 64), Image.Resampling.BILINEAR)
        maps = trained.segment(np.asarray(image)[None], Size(32, 32))[0]
        expected: dict[str, np.ndarray] = {}
        for label_id in np.unique(maps[maps > 0]).tolist():
            name = trained.labels[label_id - 1].name
            expected[name] = expected.get(name, np.zeros((32, 32), bool)) | (maps == label_id).any(0)
        found = masks_of(made, row)
        assert found.keys() == expected.keys()
        for name, mask in expected.items():
            np.testing.assert_array_equal(found[name], mask)
    assert set(made.categories) <= {"object", "part", "material", "texture"}


def test_the_data_set_says_which_segmenter_labeled_it(made: ConceptData, trained: Segmenter) -> None:
    masks = read_machine_masks(made.root)
    assert masks == MachineMasks(segmenter=trained.spec, segmenter_digest=trained.digest)
    note = masks.note("sky", "object")
    assert note == ("machine mask", f"mask by {trained.spec}, not compared with human masks")
    assert masks.note("red-c", "color") is masks.note(None, None) is None


def test_a_changed_or_foreign_file_of_the_segmenter_is_refused(made: ConceptData, tmp_path: Path) -> None:
    content = json.loads((made.root / "segmenter.json").read_text())
    (tmp_path / "segmenter.json").write_text(json.dumps(content | {"segmenter": "people"}))
    with pytest.raises(
        ConceptsError, match=r"segmenter.json does not hold what .* wrote \(ValueError: its digest is another"
    ):
        read_machine_masks(tmp_path)
    (tmp_path / "segmenter.json").write_text("[]")
    with pytest.raises(ConceptsError, match=r"segmenter.json does not hold what"):
        read_machine_masks(tmp_path)


def test_an_interrupted_command_segments_only_what_is_left(
    trained: Segmenter, photos: Path, made: ConceptData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "netdissect")
    seen: list[int] = []

    def stop(stage: str, done: int, _: int | None) -> None:
        if stage == segmenting.STAGE and done == 4:
            raise KeyboardInterrupt

    def note(stage: str, done: int, _: int | None) -> None:
        if stage == segmenting.STAGE:
            seen.append(done)

    with pytest.raises(KeyboardInterrupt):
        segment_dataset(tmp_path / "data", photos, trained, PLAIN, progress=stop)
    segment_dataset(tmp_path / "data", photos, trained, PLAIN, progress=note)
    assert seen == [7]
    assert "going on with 4 of 7 images that were segmented before" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    for name in ("index.csv", "label.csv", "segmenter.json"):
        assert (tmp_path / "data" / name).read_bytes() == (made.root / name).read_bytes()


def test_time_and_disk_are_stated_after_the_first_batch(
    trained: Segmenter, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "netdissect")
    segment_dataset(tmp_path / "data", photos, trained, PLAIN.model_copy(update={"batch_size": 3}))
    (line,) = (record.getMessage() for record in caplog.records if "segmenting 7 images" in record.getMessage())
    assert "about 1 min; label maps take about" in line


@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_label_maps_are_cropped_and_padded_with_their_image(photos: Path, tmp_path: Path, monkeypatch, resize) -> None:
    (tmp_path / "halves.py").write_text(
        "import numpy as np\nclass Halves:\n    labels = ['left', 'right']\n    def segment(self, images):\n"
        "        maps = np.ones((len(images), 1, 8, 8), int)\n        maps[..., 4:] = 2\n        return maps\n"
    )
    monkeypatch.chdir(tmp_path)
    options = MachineLabelOptions(write=WriteOptions(size=64, resize=resize))
    segment_dataset(tmp_path / "data", photos, load_segmenter("python:halves:Halves"), options)
    masks = masks_of(ConceptData.open(tmp_path / "data"), 6)  # 90 x 50 pixels
    np.testing.assert_array_equal(masks["left"][:, :16].any(0), True)
    assert not masks["left"][:, 16:].any()
    rows = masks["right"].any(1)
    assert rows.all() if resize == "crop" else (rows[7:25].all() and not rows[:6].any() and not rows[26:].any())


def test_quadrants_are_halves_of_each_connected_component() -> None:
    labels = np.zeros((7, 8), np.int32)
    labels[1:5, 1:4] = 2
    labels[5, 4] = 2  # touches at a corner
    labels[0:2, 6:8] = 2
    labels[6, 0] = 1
    halves = quadrant_maps(labels, 2)
    expected = np.zeros((2, 7, 8), np.int32)
    for label in (1, 2):
        components, count = ndimage.label(labels == label, np.ones((3, 3)))
        for number in range(1, count + 1):
            ys, xs = np.nonzero(components == number)
            for y, x in zip(ys.tolist(), xs.tolist(), strict=True):
                top, left = y < (min(ys) + max(ys) + 1) // 2, x < (min(xs) + max(xs) + 1) // 2
                expected[0, y, x] = label if top else label + 2
                expected[1, y, x] = label + 4 if left else label + 6
    np.testing.assert_array_equal(halves, expected)


def test_quadrants_are_parts_of_the_data_set(trained: Segmenter, photos: Path, tmp_path: Path) -> None:
    made = segment_dataset(tmp_path / "data", photos, trained, PLAIN.model_copy(update={"quadrants": True}))
    assert made.masks.quadrants
    data = ConceptData.open(tmp_path / "data")
    for row in range(len(data)):
        masks = masks_of(data, row)
        objects = [c.name for c in data.concepts if c.category == "object" and c.name in masks]
        assert objects
        for name in objects:
            top, bottom, left, right = (masks.get(f"{name}-{side}", np.zeros((32, 32), bool)) for side in "tblr")
            np.testing.assert_array_equal(top ^ bottom, masks[name])
            np.testing.assert_array_equal(left ^ right, masks[name])


@pytest.fixture(scope="module")
def human(tmp_path_factory: pytest.TempPathFactory) -> ConceptData:
    """A synthetic data set with true masks, whose images the segmenter has not seen."""
    out = tmp_path_factory.mktemp("human") / "data"
    write_synthetic(out, images=12, size=64, seed=7)
    rows = list(csv.reader((out / "index.csv").read_text().splitlines()))
    rows[1][rows[0].index("object")] = ""  # an image that is not annotated in the category
    (out / "index.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    return ConceptData.open(out)


def test_agreement_is_the_iou_over_images_that_are_annotated(
    trained: Segmenter, photos: Path, human: ConceptData, tmp_path: Path
) -> None:
    made = segment_dataset(tmp_path / "data", photos, trained, PLAIN.model_copy(update={"compare": human.root}))
    agreement = made.masks.agreement
    assert agreement is not None
    assert read_machine_masks(tmp_path / "data") == made.masks
    measured = {(row.concept, row.category): row for row in agreement.concepts}
    number = {concept.name: concept.label_id for concept in human.concepts}
    pixels: dict[tuple[str, str], list[int]] = {key: [0, 0, 0] for key in measured}
    for row in range(len(human)):
        image = np.asarray(Image.open(human.image_path(row)))
        maps, labels = trained.segment(image[None], Size(32, 32))[0], human.labels(row).label_channels
        for (name, category), sums in pixels.items():
            annotated = np.isin(labels, [c.label_id for c in human.concepts if c.category == category])
            if annotated.any():
                ids = [i for i, label in enumerate(trained.labels, 1) if label == (name, category)]
                machine, true = np.isin(maps, ids).any(0), (labels == number[name]).any(0)
                sums[0] += (machine & true).sum()
                sums[1] += (machine | true).sum()
                sums[2] += ((machine | true) & annotated.any(0)).sum()
    assert ("sky", "object") in measured
    for key, (both, union, labeled) in pixels.items():
        assert measured[key].iou == pytest.approx(both / union)
        assert measured[key].labeled_iou == pytest.approx(both / labeled)
        assert measured[key].iou_ci_low <= measured[key].iou <= measured[key].iou_ci_high
    assert agreement.miou == pytest.approx(np.mean([row.iou for row in agreement.concepts]))
    assert agreement.miou_ci_low < agreement.miou < agreement.miou_ci_high
    note = made.masks.note("sky", "object")
    assert note is not None
    assert note.short == f"mask IoU {measured['sky', 'object'].iou:.2f}"
    assert note.long.endswith(f"IoU against human masks {measured['sky', 'object'].iou:.2f}")


def test_a_perfect_segmenter_agrees_fully(
    human: ConceptData, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "perfect.py").write_text(
        "import numpy as np\nfrom netdissect.concepts import ConceptData\n"
        f"data = ConceptData.open({str(human.root)!r}, categories=['object'])\n"
        "from PIL import Image\n"
        "known = {np.asarray(Image.open(data.image_path(i))).tobytes(): data.labels(i).label_channels.max(0) "
        "for i in range(len(data))}\n"
        "names = {c.label_id: c.name for c in data.concepts}\n"
        "class Perfect:\n"
        "    labels = [names.get(i, f'none {i}') for i in range(1, max(names) + 1)]\n"
        "    def segment(self, images):\n"
        "        none = np.ones((32, 32), int)\n"
        "        return np.stack([known.get(image.tobytes(), none) for image in images])[:, None]\n"
    )
    monkeypatch.chdir(tmp_path)
    options = PLAIN.model_copy(update={"compare": human.root})
    agreement = segment_dataset(
        tmp_path / "data", photos, load_segmenter("python:perfect:Perfect"), options
    ).masks.agreement
    assert agreement is not None
    assert {row.iou for row in agreement.concepts} == {1.0}
    assert (agreement.miou, agreement.miou_ci_low, agreement.miou_ci_high) == (1.0, 1.0, 1.0)


def test_a_comparison_without_common_concepts_is_refused(
    made: ConceptData, photos: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "strange.py").write_text(
        "import numpy as np\nclass Strange:\n    labels = ['quark']\n    def segment(self, images):\n"
        "        return np.ones((len(images), 1, 4, 4), int)\n"
    )
    monkeypatch.chdir(tmp_path)
    options = PLAIN.model_copy(update={"compare": made.root})
    with pytest.raises(SegmenterError, match=r"none of the 1 labels of python:strange:Strange is a concept of"):
        segment_dataset(tmp_path / "data", photos, load_segmenter("python:strange:Strange"), options)


def test_masks_that_are_all_empty_are_an_error(trained_file: Path, photos: Path, tmp_path: Path) -> None:
    segmenter = load_segmenter(str(trained_file), min_score=1.0)
    with pytest.raises(SegmenterError, match=r"labels no pixel of the 7 images.*lower --min-score"):
        segment_dataset(tmp_path / "data", photos, segmenter, PLAIN)


def test_a_folder_without_images_and_images_that_cannot_be_read_are_named(
    trained: Segmenter, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("no image")
    with pytest.raises(SourceError, match=r"none holds no image. Expected at least one, at any depth"):
        segment_dataset(tmp_path / "data", tmp_path / "none", trained, PLAIN)
    (tmp_path / "none" / "broken.jpg").write_bytes(b"no jpeg")
    (tmp_path / "none" / "good.png").write_bytes((photos / "0.png").read_bytes())
    with pytest.raises(SourceError, match=r"1 of 2 images cannot be read(.|\n)*broken.jpg cannot be read as an image"):
        segment_dataset(tmp_path / "data", tmp_path / "none", trained, PLAIN)
    (tmp_path / "none" / "broken.jpg").unlink()
    seen: list[tuple[int, int | None]] = []

    def note(stage: str, done: int, total: int | None) -> None:
        if stage == segmenting.STAGE:
            seen.append((done, total))

    assert segment_dataset(tmp_path / "data", tmp_path / "none", trained, PLAIN, progress=note).images == 1
    assert not seen  # the readable image was kept
    with pytest.raises(ConceptsError, match=r"already holds a finished data set"):
        segment_dataset(tmp_path / "data", tmp_path / "none", trained, PLAIN)
