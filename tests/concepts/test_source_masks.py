"""Masks in values and in colors, their tables, and images that EXIF turns."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from netdissect.concepts import ConceptData
from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.sample import Channel
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import parse_source
from netdissect.concepts.sources.class_tables import read_class_table
from netdissect.concepts.transfer.subset_merge import subset
from netdissect.errors import SourceError

Pixels = npt.NDArray[np.integer]

RED, GREEN = (128, 0, 0), (0, 128, 0)  # classes 1 and 2 in the palette of Pascal VOC
TWO = "value,name\n1,aeroplane\n2,bicycle\n"
NAMED = "value,name,color\n1,aeroplane,#800000\n2,bicycle,#008000\n"
MANY = "value,name\n" + "".join(f"{n},class {n}\n" for n in range(1, 172))


def painted(top: tuple[int, int, int], bottom: tuple[int, int, int] = (0, 0, 0)) -> Pixels:
    pixels = np.zeros((8, 6, 3), np.uint8)
    pixels[:4], pixels[4:] = top, bottom
    return pixels


def indexed(values: Pixels, palette: dict[int, tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette([channel for value in range(256) for channel in palette.get(value, (0, 0, 0))])
    return image


def make(folder: Path, mask: Pixels | Image.Image, table: str, name: str = "classes.csv") -> Path:
    image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", image.size, "gray").save(folder / "images" / "a.jpg")
    image.save(folder / "masks" / "a.png")
    (folder / name).write_text(table)
    return folder


def pixels_of(text: str) -> dict[str, int]:
    """Count the pixels of each name in the only mask of a source."""
    (sample,) = parse_source(text).samples("own")
    (channel,) = sample.read_labels()["object"]
    assert isinstance(channel, Channel)
    unnamed = {value for value in np.unique(channel.values).tolist() if value and value not in channel.names}
    assert not unnamed
    names = [channel.names.get(int(value), "") for value in channel.values.ravel()]
    return {name: names.count(name) for name in set(names) if name}


HALF = {"aeroplane": 24, "bicycle": 24}


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (NAMED, "classes.csv"),
        ("name,color\naeroplane,800000\nbicycle,0 128 0\n", "classes.csv"),
        ("name,r,g,b\naeroplane,128,0,0\nbicycle,0,128,0\n", "classes.csv"),
        ("name,r,g,b\naeroplane,128,0,0\nbicycle,0,128,0\n", "class_dict.csv"),
        ("Name,Red,Green,Blue\naeroplane,128,0,0\nbicycle,0,128,0\n", "classes.csv"),
        (
            "# label:color_rgb:parts\nbackground:0,0,0::\naeroplane:128,0,0::\nbicycle:0,128,0::\n",
            "labelmap.txt",
        ),
    ],
)
def test_colors_of_the_table_name_the_pixels(table: str, name: str, tmp_path: Path) -> None:
    assert pixels_of(f"masks:{make(tmp_path / 'own', painted(RED, GREEN), table, name)}") == HALF


def test_colors_of_pascal_voc_are_known(tmp_path: Path) -> None:
    folder = make(tmp_path / "own", painted(RED, GREEN), TWO)
    assert pixels_of(f"masks:{folder}?colors=voc") == HALF
    folder = make(tmp_path / "own", painted((224, 224, 192), (192, 128, 128)), "value,name\n15,person\n255,\n")
    assert pixels_of(f"masks:{folder}?colors=voc") == {"person": 24}


@pytest.mark.parametrize("table", [TWO, MANY])
def test_painted_classes_without_a_table_of_colors_are_asked_about(table: str, tmp_path: Path) -> None:
    """With 171 classes the color (128, 0, 0) would be read as class 128."""
    folder = make(tmp_path / "own", painted(RED), table)
    with pytest.raises(SourceError, match=r"in color, e\.g\. \(red 128, green 0, blue 0\).*\?read=value.*\?colors=voc"):
        pixels_of(f"masks:{folder}")
    with pytest.raises(SourceError, match="holds blue pixels, as if classes were painted in colors"):
        pixels_of(f"masks:{make(folder, painted((250, 50, 83)), table)}")


def test_packed_values_are_read_when_the_table_needs_them_or_the_user_says_so(tmp_path: Path) -> None:
    table = "value,name\n1,aeroplane\n258,bicycle\n"
    assert pixels_of(f"masks:{make(tmp_path / 'own', painted((1, 0, 0), (2, 1, 0)), table)}") == HALF
    assert pixels_of(f"masks:{make(tmp_path / 'own', painted((1, 0, 0), (2, 0, 0)), TWO)}?read=value") == HALF


@pytest.mark.parametrize("table", [TWO, NAMED])
def test_gray_saved_in_three_equal_channels_is_gray(table: str, tmp_path: Path) -> None:
    assert pixels_of(f"masks:{make(tmp_path / 'own', painted((1, 1, 1), (2, 2, 2)), table)}") == HALF


def test_indexed_masks_are_read_by_index_unless_their_palette_says_otherwise(tmp_path: Path) -> None:
    values = np.repeat([1, 2], 24).reshape(8, 6)
    agreeing, swapped = indexed(values, {1: RED, 2: GREEN}), indexed(values, {1: GREEN, 2: RED})
    strange = indexed(values, {1: (9, 9, 9), 2: (7, 0, 7)})
    for image in (agreeing, strange):
        assert pixels_of(f"masks:{make(tmp_path / 'own', image, NAMED)}") == HALF
    only_first = np.where(values == 1, 1, 0)
    folder = make(tmp_path / "own", indexed(only_first, {1: GREEN}), NAMED)
    assert pixels_of(f"masks:{folder}?read=value") == {"aeroplane": 24}
    assert pixels_of(f"masks:{folder}?read=color") == {"bicycle": 24}
    with pytest.raises(SourceError, match=r"shows the value 1 in the color #008000.*gives to the value 2"):
        pixels_of(f"masks:{make(folder, swapped, NAMED)}")


def test_colors_that_are_not_listed_are_an_error_or_unlabeled(tmp_path: Path) -> None:
    mask = painted(RED, GREEN)
    mask[4] = (64, 64, 0)  # a smoothed edge
    folder = make(tmp_path / "own", mask, NAMED)
    with pytest.raises(SourceError, match=r"holds the color #404000 \(6 pixels\), which .*classes\.csv does not list"):
        pixels_of(f"masks:{folder}")
    assert pixels_of(f"masks:{folder}?unlisted=unlabeled") == {"aeroplane": 24, "bicycle": 18}
    folder = make(tmp_path / "gray", np.repeat([1, 9], 24).reshape(8, 6).astype(np.uint8), TWO)
    assert pixels_of(f"masks:{folder}?unlisted=unlabeled") == {"aeroplane": 24}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "value,name\n1,door, double\n2,dog\n",
            r"line 2: '1,door,double' has 3 fields, but the header",
        ),
        ("value,name\n1,door\n2\n", r"line 3 has no field 'name'"),
        ("value,name,note\n1,door, double,\n", r"line 2: '1,door,double,' has 4 fields"),
        ("value,name,color\n1,sky,#80000g\n", "holds the color '#80000g'"),
        ("value,name,color\n1,sky,300 0 0\n", "holds the color '300 0 0'"),
        ("name,color\nsky,#800000\nsea,#800000\n", "gives the color #800000 to 'sky' and to 'sea'"),
        ("value,color\n1,#800000\n", "lacks the column 'name'"),
    ],
)
def test_a_wrong_table_of_colors_is_refused(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text(table)
    with pytest.raises(SourceError, match=message):
        read_class_table(tmp_path / "classes.csv")


def test_quoted_commas_and_an_empty_last_column_are_read(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text('value,name,\n1,"door, double",\n2,dog,\n')
    assert read_class_table(tmp_path / "classes.csv").names == {1: "door, double", 2: "dog"}


@pytest.mark.parametrize("mark", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_spreadsheets_are_read(mark: str, encoding: str, tmp_path: Path) -> None:
    table = tmp_path / "classes.csv"
    text = f'Value{mark}Name\r\n1{mark}"door, double"\r\n2{mark}caf\u00e9\r\n{mark}\r\n'
    table.write_bytes(text.encode(encoding))
    assert read_class_table(table).names == {1: "door, double", 2: "caf\u00e9"}


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("value,name,Name\n1,dog,Hund\n")
    with pytest.raises(SourceError, match="has more than one column 'name'; its header is 'value,name,Name'"):
        read_class_table(tmp_path / "classes.csv")


def test_a_folder_without_masks_is_told_how_it_should_look(tmp_path: Path) -> None:
    make(tmp_path / "own", painted(RED), NAMED)
    (tmp_path / "own" / "masks").rename(tmp_path / "own" / "labels")
    with pytest.raises(SourceError, match=r"masks does not exist\. Expected images/, masks/ with a mask of"):
        pixels_of(f"masks:{tmp_path / 'own'}")


def test_a_synonym_of_a_class_never_swallows_another_class(tmp_path: Path) -> None:
    mask = np.repeat([1, 1, 1, 2], 12).reshape(8, 6).astype(np.uint8)
    folder = make(tmp_path / "own", mask, "value,name\n1,screen door;screen\n2,screen\n")
    out = build_dataset(tmp_path / "out", [parse_source(f"masks:{folder}")], WriteOptions(size=16))
    assert {c.name: round(c.coverage, 2) for c in inspect_dataset(out).concepts} == {
        "screen door": 0.75,
        "screen": 0.25,
    }


def test_a_class_of_one_name_keeps_it_from_a_class_that_has_others(tmp_path: Path) -> None:
    mask = np.repeat([1, 1, 1, 2], 12).reshape(8, 6).astype(np.uint8)
    folder = make(tmp_path / "own", mask, "value,name\n1,bag;handbag\n2,Bag\n")
    out = build_dataset(tmp_path / "out", [parse_source(f"masks:{folder}")], WriteOptions(size=16))
    assert {c.name: round(c.coverage, 2) for c in inspect_dataset(out).concepts} == {"handbag": 0.75, "bag": 0.25}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("read=color", "says read=color, but .* gives no colors"),
        ("read=index", "Expected value or color"),
        ("unlisted=yes", "Expected unlabeled or error"),
    ],
)
def test_options_of_masks_that_cannot_be_followed_are_explained(option: str, message: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "own", painted((1, 1, 1)), TWO)
    with pytest.raises(SourceError, match=message):
        pixels_of(f"masks:{folder}?{option}")


def turned_pair(folder: Path, orientation: int, own: int | None) -> Path:
    """Draw an image that is red where its mask is 1, as stored, and let EXIF turn it; `own` turns the mask, too."""
    folder.mkdir(parents=True)
    stored = np.zeros((12, 16, 3), np.uint8)
    stored[:4, :4] = (255, 0, 0)
    mask = (stored[..., 0] > 0).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    Image.fromarray(stored).save(folder / "images" / "a.png", exif=exif)
    exif[0x0112] = own or 1
    Image.fromarray(mask).save(folder / "masks" / "a.png", exif=exif if own else Image.Exif())
    (folder / "classes.csv").write_text("value,name\n1,square\n")
    return folder


def assert_label_on_red(data: Path) -> None:
    data_set = ConceptData.open(data)
    image = np.asarray(Image.open(data_set.image_path(0)).resize((16, 16), Image.Resampling.BOX))
    planes = data_set.labels(0).label_channels
    assert np.array_equal(planes[0] > 0, image[..., 0] > 128)
    assert planes.any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image_and_its_mask(orientation: int, tmp_path: Path) -> None:
    options = WriteOptions(size=32, image_format="png")
    for number, own in enumerate((None, orientation)):
        folder = turned_pair(tmp_path / str(number), orientation, own)
        out = build_dataset(tmp_path / f"out{number}", [parse_source(f"masks:{folder}")], options)
        assert_label_on_red(out)
        upright = ImageOps.exif_transpose(Image.open(folder / "images" / "a.png")).resize(
            (32, 32), Image.Resampling.BOX
        )
        corner = np.argwhere(np.asarray(upright)[..., 0] > 128).min(axis=0)
        built = np.asarray(Image.open(ConceptData.open(out).image_path(0)))
        assert np.argwhere(built[..., 0] > 128).min(axis=0) == pytest.approx(corner, abs=1)


def test_masks_drawn_on_the_upright_image_are_told_by_an_option(tmp_path: Path) -> None:
    folder = turned_pair(tmp_path / "own", 6, None)
    Image.fromarray(np.rot90(np.asarray(Image.open(folder / "masks" / "a.png")), -1)).save(folder / "masks" / "a.png")
    with pytest.raises(
        SourceError, match=r"is 16 x 12 pixels .* is 12 x 16, which EXIF turns to 16 x 12.*\?drawn=upright"
    ):
        build_dataset(tmp_path / "out", [parse_source(f"masks:{folder}")], WriteOptions(size=32))
    source = parse_source(f"masks:{folder}?drawn=upright")
    out = build_dataset(tmp_path / "out", [parse_source(source.text)], WriteOptions(size=32, image_format="png"))
    assert_label_on_red(out)


def test_a_data_set_whose_images_ask_for_a_turn_is_read_as_stored_and_inspect_says_so(tmp_path: Path) -> None:
    folder = turned_pair(tmp_path / "own", 1, None)
    options = WriteOptions(size=32, image_format="png")
    out = build_dataset(tmp_path / "out", [parse_source(f"masks:{folder}")], options)
    path = ConceptData.open(out).image_path(0)
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.open(path).save(path, exif=exif)
    assert_label_on_red(out)
    inspection = inspect_dataset(out)
    assert (inspection.turned, inspection.problems) == (1, ())
    small = subset(out, tmp_path / "small")
    assert_label_on_red(small)
    assert inspect_dataset(small).turned == 0
