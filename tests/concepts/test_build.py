"""Sources of labeled images, and one data set out of several."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from netdissect.concepts import ConceptData
from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.sample import PixelValues
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import FolderSource, MaskSource, parse_source
from netdissect.concepts.sources.class_tables import read_class_table
from netdissect.concepts.sources.mask_values import plain_values, read_mask_file
from netdissect.errors import ConceptsError, SourceError

Pixels = npt.NDArray[np.uint8]


def read_mask(path: Path) -> PixelValues:
    return plain_values(read_mask_file(path, "a mask"), str(path))


def save(path: Path, pixels: Pixels, kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, kind)
    return path


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def make_masks(folder: Path, values: dict[str, Pixels], classes: str = "0,\n1,Sky\n2,traffic_light\n") -> Path:
    for number, (name, mask) in enumerate(values.items()):
        save(folder / "images" / f"{name}.jpg", noise(*mask.shape[:2], 3, seed=number))
        save(folder / "masks" / f"{name}.png", mask)
    (folder / "classes.csv").write_text(f"value,name\n{classes}")
    return folder


def halves(first: int, second: int, height: int = 8, width: int = 6) -> Pixels:
    mask = np.full((height, width), first, np.uint8)
    mask[:, width // 2 :] = second
    return mask


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return make_masks(tmp_path / "own", {"a": halves(1, 2), "deep/b": halves(0, 1), "c": halves(2, 2)})


def concept_shares(out: Path) -> dict[tuple[str, str], tuple[int, float]]:
    return {(c.name, c.category): (c.frequency, round(c.coverage, 6)) for c in inspect_dataset(out).concepts}


def test_masks_become_a_data_set_without_problems(masks: Path, tmp_path: Path) -> None:
    out = build_dataset(tmp_path / "out", [parse_source(f"masks:{masks}")], WriteOptions(size=16))
    assert concept_shares(out) == {("sky", "object"): (2, 1.0), ("traffic light", "object"): (2, 1.5)}
    assert [row.image for row in ConceptData.open(out).rows] == ["own/a.jpg", "own/c.jpg", "own/deep/b.jpg"]
    assert inspect_dataset(out).problems == ()


def test_concepts_of_one_name_and_category_from_several_sources_become_one(masks: Path, tmp_path: Path) -> None:
    other = make_masks(tmp_path / "sub" / "own", {"z": halves(5, 11)}, "5,SKY\n11,\n")
    sources = [parse_source(f"masks:{masks}"), parse_source(f"masks:{other}"), parse_source(f"masks:{other}=part")]
    out = build_dataset(tmp_path / "out", sources, WriteOptions(size=16))
    shares = concept_shares(out)
    assert shares["sky", "object"] == (3, 1.5)
    assert shares["sky", "part"] == (1, 0.5)
    data = ConceptData.open(out)
    assert sum(concept.name == "sky" for concept in data.concepts) == 1
    assert {row.image.split("/")[0] for row in data.rows} == {"own", "own-2", "own-3"}


def test_zero_is_a_concept_when_it_has_a_name_and_another_value_may_be_unlabeled(tmp_path: Path) -> None:
    folder = make_masks(tmp_path / "street", {"a": halves(0, 11)}, "0,sky\n11,\n")
    assert concept_shares(build_dataset(tmp_path / "out", [MaskSource(folder)], WriteOptions(size=12))) == {
        ("sky", "object"): (1, 0.5)
    }


@pytest.mark.parametrize("kind", ["gray", "indexed", "rgb", "rgba", "sixteen", "bits", "gray-alpha"])
def test_masks_of_every_lossless_kind_hold_the_same_values(kind: str, tmp_path: Path) -> None:
    values = halves(1, 1 if kind == "bits" else 2).astype(int)
    values[:4] = 0
    if kind in ("rgb", "rgba", "sixteen"):
        values[6:] = 700
    small = values.astype(np.uint8)
    image = Image.fromarray(small)
    if kind == "indexed":
        image = Image.fromarray(small).convert("P")
        image.putdata(small.ravel().tolist())
        image.putpalette(noise(768).tolist())
    elif kind == "bits":
        image = Image.fromarray(values.astype(bool))
    elif kind == "gray-alpha":
        image = Image.merge("LA", (image, Image.fromarray(noise(8, 6))))
    elif kind == "sixteen":
        image = Image.fromarray(values.astype(np.uint16))
    elif kind in ("rgb", "rgba"):
        packed = np.stack([values % 256, values // 256, 0 * values], axis=-1).astype(np.uint8)
        image = Image.fromarray(packed).convert("RGB" if kind == "rgb" else "RGBA")
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), values)


def test_masks_that_lost_their_values_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "lossy.png", halves(1, 2), "JPEG")
    save(tmp_path / "painted.png", np.full((4, 4, 3), (90, 0, 90), np.uint8))
    with pytest.raises(SourceError, match=r"lossy\.png is a JPEG"):
        read_mask(tmp_path / "lossy.png")
    with pytest.raises(SourceError, match=r"painted\.png holds blue pixels"):
        read_mask(tmp_path / "painted.png")


def test_all_bad_files_are_named_at_once_and_nothing_is_written(masks: Path, tmp_path: Path) -> None:
    jpeg = masks / "images" / "a.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[:-80])
    png = masks / "masks" / "c.png"
    png.write_bytes(png.read_bytes()[:45])
    save(masks / "masks" / "deep" / "b.png", halves(1, 2, 5, 6))
    save(masks / "images" / "lonely.jpg", noise(8, 6, 3))
    save(masks / "masks" / "widow.png", halves(1, 2))
    save(masks / "images" / "odd.png", noise(8, 6, 3))
    save(masks / "masks" / "odd.png", halves(1, 77))
    (masks / "images" / "fake.jpg").write_text("no image")
    save(masks / "masks" / "fake.png", halves(1, 2))
    with pytest.raises(SourceError) as caught:
        build_dataset(tmp_path / "out", [MaskSource(masks)], WriteOptions(size=16))
    message = str(caught.value)
    assert message.startswith("7 labeled images or masks cannot be used")
    for part in (
        "a.jpg cannot be read as an image",
        "c.png cannot be read as a mask",
        "b.png is 5 x 6 pixels",
        "lonely.png does not exist",
        "widow.* does not exist",
        "odd.png holds the value 77, which has no name",
        "fake.jpg cannot be read as an image",
    ):
        assert part in message
    assert not (tmp_path / "out").exists()


def test_many_bad_files_are_counted(tmp_path: Path) -> None:
    folder = make_masks(tmp_path / "own", {f"{n:02}": halves(1, 9) for n in range(14)})
    with pytest.raises(SourceError, match=r"(?s)^14 labeled.*00\.png.*09\.png.*and 4 more") as caught:
        build_dataset(tmp_path / "out", [MaskSource(folder)], WriteOptions(size=16))
    assert "10.png" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("value,label\n1,sky\n", "lacks the column 'name'"),
        ("value,name\nx,sky\n", "holds the value 'x'"),
        ("value,name\n1,sky\n1,sea\n", "names the value 1 twice"),
        ("value,name\n1,\n", "names no concept"),
        ("value,name\n70000,sky\n", "holds the value '70000'"),
    ],
)
def test_a_wrong_table_of_classes_is_refused(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text(table)
    with pytest.raises(SourceError, match=message):
        read_class_table(tmp_path / "classes.csv")


def test_a_table_of_classes_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("\ufeffvalue,name\r\n1,sky\r\n", encoding="utf-8")
    assert read_class_table(tmp_path / "classes.csv").names == {1: "sky"}


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("", "own does not exist"),
        ("images", "images does not exist"),
        ("masks", "masks does not exist"),
        ("classes.csv", r"classes\.csv does not exist"),
    ],
)
def test_a_missing_folder_is_named(missing: str, message: str, masks: Path, tmp_path: Path) -> None:
    (masks / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=message):
        build_dataset(tmp_path / "out", [MaskSource(masks)])


def test_hidden_and_text_files_are_passed_over_but_two_of_a_name_are_not(masks: Path, tmp_path: Path) -> None:
    for name in (".DS_Store", "notes.txt", "Thumbs.db", ".hidden/x.jpg"):
        (masks / "images" / name).parent.mkdir(exist_ok=True)
        (masks / "images" / name).write_text("x")
    assert len(list(MaskSource(masks).samples("own"))) == 3
    save(masks / "images" / "a.png", noise(8, 6, 3))
    with pytest.raises(SourceError, match=r"a\.jpg and .*a\.png have the same name"):
        list(MaskSource(masks).samples("own"))


@pytest.mark.parametrize("below", ["", "images"])
def test_folders_label_the_whole_image(below: str, tmp_path: Path) -> None:
    for name in ("Banded/1.jpg", "Banded/2.png", "dotted/sub/3.jpg"):
        save(tmp_path / "tex" / below / name, noise(8, 6, 3))
    source = parse_source(f"folders:{tmp_path / 'tex'}=texture?class=first")
    out = build_dataset(tmp_path / "out", [source], WriteOptions(size=16))
    assert concept_shares(out) == {("banded", "texture"): (2, 2.0), ("dotted", "texture"): (1, 1.0)}
    assert all(len(row.image_level) == 1 and not row.label_maps for row in ConceptData.open(out).rows)


def test_the_joint_list_adds_labels_and_lines_without_images_are_ignored(tmp_path: Path) -> None:
    for name in ("banded/1.jpg", "dotted/2.jpg", "woven/3.jpg"):
        save(tmp_path / "tex" / "images" / name, noise(8, 6, 3))
    lines = "banded/1.jpg banded dotted \ndotted/2.jpg woven\nbanded/gone.jpg banded lacelike\n"
    (tmp_path / "tex" / "labels_joint_anno.txt").write_text(lines)
    out = build_dataset(tmp_path / "out", [FolderSource(tmp_path / "tex", "texture")], WriteOptions(size=16))
    data = ConceptData.open(out)
    seen = [[data.by_label_id[n].name for n in row.image_level] for row in data.rows]
    assert seen == [["banded", "dotted"], ["dotted", "woven"], ["woven"]]


def test_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    with pytest.raises(SourceError, match="holds no folder"):
        list(FolderSource(tmp_path / "flat", "scene").samples("flat"))
    save(tmp_path / "flat" / "coast" / "1.jpg", noise(4, 4, 3))
    save(tmp_path / "flat" / "loose.jpg", noise(4, 4, 3))
    with pytest.raises(SourceError, match=r"loose\.jpg lies in no class folder"):
        list(FolderSource(tmp_path / "flat", "scene").samples("flat"))
    (tmp_path / "empty" / "coast").mkdir(parents=True)
    with pytest.raises(SourceError, match="holds no image"):
        build_dataset(tmp_path / "out", [FolderSource(tmp_path / "empty", "scene")])
    (tmp_path / "flat" / "labels_joint_anno.txt").write_text("coast/1.jpg\n")
    with pytest.raises(SourceError, match=r"line 1: 'coast/1\.jpg' names no class"):
        list(FolderSource(tmp_path / "flat", "scene").samples("flat"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photos", "it has no type"),
        ("mask:photos", "the type 'mask' is unknown"),
        ("masks:", "names no folder"),
        ("folders:photos", "names no category"),
        ("masks:photos=Big Things", "names the category 'Big Things'"),
    ],
)
def test_words_that_name_no_source_are_explained(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        parse_source(text)


def test_words_name_sources() -> None:
    assert parse_source("masks:a:b") == MaskSource(Path("a:b"), "object")
    assert parse_source("masks:x=y/z") == MaskSource(Path("x=y/z"), "object")
    assert parse_source("folders:x=y/z=scene") == FolderSource(Path("x=y/z"), "scene")
    assert parse_source(parse_source("masks:photos=part").text) == MaskSource(Path("photos"), "part")


def test_no_source_and_a_target_in_the_way_are_told_before_anything_is_read(masks: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no source"):
        build_dataset(tmp_path / "out", [])
    out = build_dataset(tmp_path / "out", [MaskSource(masks)], WriteOptions(size=16))
    with pytest.raises(ConceptsError, match="already holds a finished data set"):
        build_dataset(out, [MaskSource(tmp_path / "not there")])


def test_one_image_is_a_data_set(tmp_path: Path) -> None:
    save(tmp_path / "one" / "coast" / "1.png", noise(5, 5, 3))
    out = build_dataset(tmp_path / "out", [FolderSource(tmp_path / "one", "scene")], WriteOptions(size=32, colors=True))
    data = ConceptData.open(out)
    assert len(data) == 1
    assert data.categories == ("color", "scene")
    assert inspect_dataset(out).problems == ()


def test_a_color_table_replaces_the_model_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "one" / "coast" / "1.png", np.full((5, 5, 3), (250, 0, 0), np.uint8))
    source = FolderSource(tmp_path / "one", "scene")
    np.save(tmp_path / "pink.npy", np.full((32, 32, 32), 6, np.uint8))
    np.save(tmp_path / "flat.npy", np.zeros((32, 32), np.uint8))

    def names(color_table: Path | None = None) -> set[str]:
        out = build_dataset(
            tmp_path / "out",
            [source],
            WriteOptions(size=16, colors=True, color_table=color_table),
            overwrite=True,
        )
        return {concept.name for concept in ConceptData.open(out, categories=["color"]).concepts}

    assert names() == {"red-c"}
    assert names(tmp_path / "pink.npy") == {"pink-c"}
    with pytest.raises(ConceptsError, match=r"flat.npy holds uint8 \(32, 32\)"):
        names(tmp_path / "flat.npy")


@pytest.mark.real
def test_real_masks_keep_the_areas_of_their_classes(shared: Path, tmp_path: Path) -> None:
    source = MaskSource(shared / "data" / "camvid")
    names = read_class_table(source.folder / "classes.csv").names
    out = build_dataset(tmp_path / "out", [source], WriteOptions(size=224))
    measured = {name: coverage for (name, _), (_, coverage) in concept_shares(out).items()}
    exact = dict.fromkeys(measured, 0.0)
    for path in (source.folder / "masks").iterdir():
        values, counts = np.unique(np.asarray(Image.open(path)), return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            if names[value]:
                exact[names[value].lower()] += count / counts.sum()
    assert measured == pytest.approx(exact, rel=0.03)  # nearest neighbor, 112 of 240 x 320
