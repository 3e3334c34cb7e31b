"""A table of labels of whole pictures.

    FILE.csv        image,label[,category]      a row a label: several rows of a picture are several labels

Paths of pictures are relative to the table, or to the folder that ``?images=DIR`` names (itself relative to the table).
A row without a category has that of ``labels:FILE.csv=CATEGORY``. Other columns are ignored. A label may list its
synonyms, separated by semicolons. A picture named without a label is an unlabeled picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from netdissect.concepts.render import CATEGORY_SPELLING
from netdissect.concepts.sample import Sample
from netdissect.concepts.sources.files import read_table
from netdissect.concepts.sources.words import SourceWords
from netdissect.errors import SourceError
from netdissect.paths import LEADS_OUT, contained

COLUMNS = ("image", "label")


@dataclass(frozen=True)
class LabelSource:
    """A table of pictures and labels.

    Attributes
    ----------
    file
        The table, CSV with a header.
    category
        Of rows that name none.
    images
        Folder to which paths are relative; None: that of the table.
    """

    file: Path
    category: str | None = None
    images: Path | None = None

    @classmethod
    def parse(cls, words: SourceWords) -> "LabelSource":
        """Make the source that ``labels:FILE.csv[=CATEGORY][?images=DIR]`` names."""
        images = words.check("images").options.get("images")
        return cls(words.folder, words.category, None if images is None else Path(images))

    @property
    def name(self) -> str:
        """Name of the table."""
        return self.file.stem

    @property
    def text(self) -> str:
        """The words that name it on the command line."""
        category = f"={self.category}" if self.category else ""
        return f"labels:{self.file}{category}" + (f"?images={self.images}" if self.images else "")

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each picture, in the order in which the table first names it.

        Raises
        ------
        SourceError
            If the table is missing or wrong; names the line.
        """
        root = self.file.parent / (self.images or "")
        labels: dict[str, dict[str, list[str]]] = {}
        for line, row in enumerate(read_table(self.file, COLUMNS, "a table of pictures and labels"), start=2):
            image = row["image"].strip().replace("\\", "/")
            self._check_place(image, line)
            named = labels.setdefault(str(PurePosixPath(image)), {})
            if label := row["label"].strip():
                category = self._category(row.get("category", ""), line)
                if label not in named.setdefault(category, []):
                    named[category].append(label)
        for image, by_category in labels.items():
            yield Sample(
                f"{prefix}/{PurePosixPath(image).with_suffix('')}",
                contained(root, image, self.file, SourceError),
                by_category,
            )

    def _check_place(self, image: str, line: int) -> None:
        if not PurePosixPath(image).name or LEADS_OUT.search(image):
            raise SourceError(
                f"{self.file}, row {line}: {image!r} is no path below the folder of the pictures. Expected a relative "
                "path without '..', e.g. 'photos/1.jpg'; name the folder with ?images=DIR."
            )

    def _category(self, told: str, line: int) -> str:
        category = told.strip() or self.category
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
