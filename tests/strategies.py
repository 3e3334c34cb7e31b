"""Worlds of a few pixels, drawn at random or written to disk, for the oracle and the library alike."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from PIL import Image

import oracle
from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.concepts import Concept, ConceptData, Labels, Size
from netdissect.config import PROTOCOLS, Protocol, ProtocolName
from netdissect.scoring import FieldSpan, FieldSpans

Floats = npt.NDArray[np.float32]

KINDS = ("normal", "relu", "integers", "zero", "constant", "relu6", "negative", "rare")
FRACTIONS = (0.005, 5 / 999, 0.02, 0.05, 0.1, 0.29, 0.5, 0.9)


@dataclass(frozen=True)
class World:
    """Activations and labels of a few images, as the oracle wants them."""

    maps: Floats
    images: tuple[oracle.OracleImage, ...]
    category_of: dict[int, int]
    categories: tuple[str, ...]
    source: tuple[int, int]
    fields: tuple[oracle.Field, oracle.Field]

    def data(self) -> ConceptData:
        """The same concepts for the library; no file is behind them."""
        concepts = tuple(
            Concept(number, f"concept {number}", self.categories[place], 1, 1.0)
            for number, place in sorted(self.category_of.items())
        )
        return ConceptData(Path("nowhere"), self.categories, concepts, ())

    def labels(self, row: int) -> Labels:
        """One image's labels for the library."""
        labeled_image = self.images[row]
        planes = np.array(labeled_image.label_channels, dtype=np.int32).reshape(
            len(labeled_image.label_channels), *labeled_image.size
        )
        return Labels(planes, np.array(labeled_image.image_level, dtype=np.int32))

    def field(self) -> FieldSpans:
        """The receptive field for the library."""
        return FieldSpans(*(FieldSpan(*axis) for axis in self.fields))

    def cells(self) -> Size:
        """Size of the maps."""
        return Size(*self.maps.shape[2:])


def activations(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Floats:
    """Draw one unit's maps of some kind that networks have."""
    # In steps of 2**-12: a pixel between float32 values of full length can lie midway between two float32 values, to
    # within what float64 tells, and which of them it becomes is then no matter of definition.
    normal = np.round(rng.normal(size=shape) * 4096).astype(np.float32) / 4096
    drawn = {
        "normal": normal,
        "relu": np.maximum(normal - 0.5, 0),
        "integers": rng.integers(0, 4, shape),
        "zero": np.zeros(shape),
        "constant": np.full(shape, rng.choice([-2.5, 0.1, 3.0])),
        "relu6": np.clip(normal * 8, 0, 6),
        "negative": -np.abs(normal) - 1,
        "rare": np.where(rng.random(shape) < 0.02, np.abs(normal), 0),
    }[kind]
    return np.asarray(drawn, dtype=np.float32)


def sparse_maps(maps: Floats) -> SparseMaps:
    """Return the active cells of maps, float32 (B, U, h, w)."""
    images, units, height, width = maps.shape
    image, unit, y, x = np.nonzero(maps)
    cells = (image * height + y) * width + x
    return SparseMaps.of_codes((images, units, height, width), cells, unit, maps[image, unit, y, x])


def labeled_image(rng: np.random.Generator, concepts: int, size: tuple[int, int]) -> oracle.OracleImage:
    """Draw the labels of one image: up to three channels, with holes, and up to three whole-image numbers."""
    planes = []
    for _ in range(rng.integers(0, 4)):
        blocks = rng.integers(0, concepts + 1, (rng.integers(1, 4), rng.integers(1, 4)))
        rows, columns = (np.arange(n) * m // n for n, m in zip(size, blocks.shape, strict=True))
        plane = blocks[np.ix_(rows, columns)]
        planes.append(np.where(rng.random(size) < rng.choice([0.0, 0.2, 0.9]), 0, plane))
    if planes and rng.random() < 0.3:
        planes.append(planes[0].copy())
    whole = tuple(int(n) for n in rng.integers(1, concepts + 1, rng.integers(0, 4)))
    return oracle.OracleImage(tuple(planes), whole, size)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a world: any map and label map sizes, any receptive field, every kind of unit."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    side = st.integers(1, 9)
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    images, cells = draw(st.integers(1, 4)), (draw(side), draw(side))
    size, ratio = (draw(st.integers(1, 13)), draw(st.integers(1, 13))), draw(st.integers(1, 4))
    spans = st.builds(oracle.Field, st.integers(-20, 5), st.integers(1, 31), st.integers(1, 9))
    categories = draw(st.integers(1, 4))
    concepts = draw(st.integers(1, 7))
    return World(
        np.stack([activations(rng, kind, (images, *cells)) for kind in kinds], axis=1),
        tuple(labeled_image(rng, concepts, size) for _ in range(images)),
        {number: int(rng.integers(categories)) for number in range(1, concepts + 1)},
        tuple(f"category{index}" for index in range(categories)),
        (size[0] * ratio, size[1] * ratio),
        (draw(spans), draw(spans)),
    )


@dataclass(frozen=True)
class Definition:
    """One protocol in the library's words and in the oracle's."""

    protocol: Protocol
    rules: oracle.Rules


def definition(name: ProtocolName, fraction: float | None = None, side: int | None = None) -> Definition:
    """Pair a named protocol with the oracle's, at another quantile or at a smaller grid if wanted."""
    rules = oracle.RULES[name]
    changes: dict[str, Any] = {} if fraction is None else {"quantiles": (fraction,)}
    if rules.grid is not None and side is not None:
        changes |= {"threshold_grid": side, "segmentation_size": side}
        rules = oracle.Rules(**{**vars(rules), "grid": side, "segmentation": side})
    if fraction is not None:
        rules = oracle.Rules(**{**vars(rules), "fraction": fraction})
    return Definition(PROTOCOLS[name].model_copy(update=changes), rules)


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    """Draw one of the four protocols, mostly at another quantile than its own: few values have no 0.5 %."""
    name = draw(st.sampled_from(sorted(PROTOCOLS)))
    return definition(name, draw(st.none() | st.sampled_from(FRACTIONS)), draw(st.integers(2, 12)))


def write_broden(
    root: Path,
    images: Sequence[oracle.OracleImage],
    coverage: dict[str, dict[int, float]],
    *,
    image: tuple[int, int] = (24, 24),
    seed: int = 0,
    columns: Sequence[Sequence[str]] | None = None,
) -> Path:
    """Write a data set in Broden's layout, its images being noise.

    Parameters
    ----------
    root
        Made if absent.
    images
        Labels of each image. Its channels go, in turn, to the columns of the categories, whole-image labels to
        the last one.
    coverage
        For each category the coverage of its label numbers: what ``c_<category>.csv`` says.
    image
        Height and width of the images.
    seed
        Of the noise.
    columns
        The cells of each image, in place of those made from `images`' channels.
    """
    (root / "images").mkdir(parents=True)
    numbers = sorted({number for codes in coverage.values() for number in codes})
    _write(root / "category.csv", ("name", "first", "last", "count", "frequency"),
           [(name, min(codes, default=0), max(codes, default=0), len(codes), 1) for name, codes in coverage.items()],
           )  # fmt: skip
    _write(root / "label.csv", ("number", "name", "category", "frequency", "coverage", "syns"),
           [(n, f"concept {n}", "", 1, 1, "") for n in numbers])  # fmt: skip
    for name, codes in coverage.items():
        _write(root / f"c_{name}.csv", ("code", "number", "name", "frequency", "coverage"),
               [(code, n, f"concept {n}", 1, c) for code, (n, c) in enumerate(codes.items(), 1)])  # fmt: skip
    rng = np.random.default_rng(seed)
    rows = []
    for index, labels in enumerate(images):
        noise = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
        wide = Image.fromarray(noise).resize((image[1], image[0]), Image.Resampling.BICUBIC)
        wide.save(root / "images" / f"{index}.png")
        cells = _cells(root, index, labels, len(coverage)) if columns is None else columns[index]
        rows.append((f"{index}.png", ("train", "val")[index % 2], *image, *labels.size, *cells))
    _write(root / "index.csv", ("image", "split", "ih", "iw", "sh", "sw", *coverage), rows)
    return root


def write_label_map(path: Path, plane: npt.NDArray[Any]) -> None:
    """Write label numbers as Broden does: number = R + 256 * G."""
    write_image(path, np.stack([plane % 256, plane // 256, np.zeros_like(plane)], axis=-1))


def write_image(path: Path, pixels: npt.NDArray[Any]) -> None:
    """Write pixels, (H, W, 3), as they are."""
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def repaint(path: Path) -> None:
    """Give all pixels of a file one value, but keep its size and times, as rsync, tar and `cp -p` keep them."""
    facts, pixels = path.stat(), np.asarray(Image.open(path)).copy()
    one = (pixels == pixels[0, 0]).all()
    assert not one or pixels.any(), "nothing would change"
    pixels[:] = 0 if one else pixels[0, 0]
    aside = path.with_suffix(".aside.png")
    Image.fromarray(pixels).save(aside)
    content = aside.read_bytes()
    aside.write_bytes(content + bytes(facts.st_size - len(content)))  # nobody reads beyond the end of the image
    os.utime(aside, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    aside.replace(path)  # at once, as a reader may be at it


def _cells(root: Path, index: int, labels: oracle.OracleImage, categories: int) -> list[str]:
    items: list[list[str]] = [[] for _ in range(categories)]
    for channel, plane in enumerate(labels.label_channels):
        name = f"{index}_{channel}.png"
        write_label_map(root / "images" / name, plane)
        items[channel % categories].append(name)
    items[-1].extend(map(str, labels.image_level))
    return [";".join(cell) for cell in items]


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
