"""The Describable Textures Dataset (Cimpoi et al. 2014), as its archive ``dtd-r1.0.1.tar.gz`` unpacks.

    DIR/images/TEXTURE/TEXTURE_NNNN.jpg
    DIR/labels/labels_joint_anno.txt        every texture that annotators saw in an image, the dominant first

DIR is ``dtd`` of the archive or the folder above it. Textures label the whole image. The lists of the authors'
ten splits are not read: the split is drawn by name, as for every source that Broden used.
"""

from dataclasses import dataclass
from pathlib import Path

from netdissect.concepts.sources.image_folder import FolderSource
from netdissect.concepts.sources.spec import SourceSpec


@dataclass(frozen=True)
class DtdSource(FolderSource):
    """A folder for each texture, and the joint list.

    Attributes
    ----------
    folder
        Holds ``images/``.
    category
        ``texture``.
    """

    folder: Path
    category: str = "texture"

    @classmethod
    def parse(cls, spec: SourceSpec) -> "DtdSource":
        """Make the source that ``dtd:DIR`` names."""
        folder = spec.check(category=False).folder
        inner = folder / "dtd"
        return cls(inner if not (folder / "images").is_dir() and (inner / "images").is_dir() else folder)

    @property
    def name(self) -> str:
        """As in Broden."""
        return "dtd"

    @property
    def text(self) -> str:
        """The words that name it on the command line."""
        return f"dtd:{self.folder}"
