"""The Describable Textures Dataset (Cimpoi et al. 2014), as its archive ``dtd-r1.0.1.tar.gz`` unpacks.

    DIR/images/TEXTURE/TEXTURE_NNNN.jpg
    DIR/labels/labels_joint_anno.txt        all textures of each image, the dominant one first

DIR is ``dtd`` of the archive or its parent folder. Textures are labels of the whole image. The authors' ten splits are
not read; the split is drawn by name, as for all sources of Broden.
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
        Folder with ``images/``.
    category
        ``texture``.
    """

    folder: Path
    category: str = "texture"

    @classmethod
    def parse(cls, spec: SourceSpec) -> "DtdSource":
        """Parse ``dtd:DIR``."""
        folder = spec.check(category=False).folder
        inner = folder / "dtd"
        return cls(inner if not (folder / "images").is_dir() and (inner / "images").is_dir() else folder)

    @property
    def name(self) -> str:
        """Name in Broden."""
        return "dtd"

    @property
    def text(self) -> str:
        """Specification on the command line."""
        return f"dtd:{self.folder}"
