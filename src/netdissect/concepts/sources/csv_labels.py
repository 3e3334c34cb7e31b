"""A table of labels of whole images.

    FILE.csv        image,label[,category]      an image with several labels has several rows

Paths of images are relative to the table, or to the folder of ``?images=DIR`` (itself relative to the table). A row
without a category has that of ``labels:FILE.csv=CATEGORY``. Other columns are ignored. An image with an empty label is
unlabeled.

``?separator=`` (``;``, ``|``, ``,``, ``/``, ``+``, ``_``, ``-`` or ``space``) is the separator of several labels in a
cell. With ``?separator=none`` a cell is one label, which may list synonyms, separated by semicolons; a name that is the
label of another row is not a synonym. Without the option a cell that looks like several labels is an error.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from netdissect.concepts.build.sample import Sample
from netdissect.concepts.build.synonyms import keep_apart
from netdissect.concepts.build.write_options import CATEGORY_SPELLING
from netdissect.concepts.sources.list_columns import check_cells, parse_separator, split_cell
from netdissect.concepts.sources.readers import read_table
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.errors import SourceError
from netdissect.paths import LEADS_OUT, contained

COLUMNS = ("image", "label")
FURTHER = re.compile(r"labels?[ _-]?\d+")


@dataclass(frozen=True)
class LabelSource:
    """A table of images and labels.

    Attributes
    ----------
    file
        The table, CSV with a header.
    category
        Category of rows without one.
    images
        Folder to which paths are relative; None: that of the table.
    separator
        Separator of labels in a cell; empty: a cell is one label; None: a cell that looks like several labels is an
        error.
    """

    file: Path
    category: str | None = None
    images: Path | None = None
    separator: str | None = None

    @classmethod
    def parse(cls, spec: SourceSpec) -> "LabelSource":
        """Parse ``labels:FILE.csv[=CATEGORY][?images=DIR&separator=...]``."""
        images = spec.check("images", "separator").options.get("images")
        return cls(spec.folder, spec.category, None if images is None else Path(images), parse_separator(spec))

    @property
    def name(self) -> str:
        """Name of the table."""
        return self.file.stem

    @property
    def text(self) -> str:
        """Specification on the command line."""
        return self._spec.text

    @property
    def _spec(self) -> SourceSpec:
        options = {"images": str(self.images)} if self.images else {}
        if self.separator is not None:
            options["separator"] = {"": "none", " ": "space"}.get(self.separator, self.separator)
        return SourceSpec("labels", str(self.file), self.category, options)

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each image, in the order in which the table first names it.

        Raises
        ------
        SourceError
            If the table is missing or wrong; names the line.
        """
        root = self.file.parent / (self.images or "")
        rows = read_table(self.file, COLUMNS, "a table of images and labels")
        self._check_columns(rows)
        check_cells((row["label"] for row in rows), self.separator, str(self.file), self._spec)
        apart = keep_apart(label for row in rows for label in split_cell(row["label"], self.separator))
        labels: dict[str, dict[str, list[str]]] = {}
        for line, row in enumerate(rows, start=2):
            image = row["image"].strip().replace("\\", "/")
            self._check_image_path(image, line)
            named = labels.setdefault(str(PurePosixPath(image)), {})
            for label in split_cell(row["label"], self.separator):
                image_labels = named.setdefault(self._category(row.get("category", ""), line), [])
                if apart[label] not in image_labels:
                    image_labels.append(apart[label])
        for image, by_category in labels.items():
            yield Sample(
                f"{prefix}/{PurePosixPath(image).with_suffix('')}",
                contained(root, image, self.file, SourceError),
                by_category,
            )

    def _check_columns(self, rows: Sequence[Mapping[str, str]]) -> None:
        further = next((name for row in rows[:1] for name in row if FURTHER.fullmatch(name.lower())), None)
        if further and any(row[further].strip() for row in rows):
            raise SourceError(
                f"{self.file} has the columns 'label' and {further!r}. Expected one column of labels; write further "
                "labels of an image in rows of their own, or in one cell with ?separator=."
            )

    def _check_image_path(self, image: str, line: int) -> None:
        if not PurePosixPath(image).name or LEADS_OUT.search(image):
            raise SourceError(
                f"{self.file}, row {line}: {image!r} is no path below the folder of the images. Expected a relative "
                "path without '..', e.g. 'photos/1.jpg'; name the folder with ?images=DIR."
            )

    def _category(self, cell: str, line: int) -> str:
        category = cell.strip() or self.category
        if category is None:
            raise SourceError(
                f"{self.file}, row {line} names no category. Expected a column 'category', or one for all rows: "
                f"labels:{self.file}=object."
            )
        if not CATEGORY_SPELLING.fullmatch(category):
            raise SourceError(
                f"{self.file}, row {line} names the category {category!r}. Expected lower-case letters, digits and "
                "underscores, e.g. object."
            )
        return category
