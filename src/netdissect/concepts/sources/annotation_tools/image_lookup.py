"""Find the images of annotations below one folder, for relative, absolute and foreign paths."""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path

from netdissect.errors import SourceError
from netdissect.paths import contained

logger = getLogger("netdissect.concepts")

ADDRESS = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://|data:")
"""How a drive, an address on the network or an image within the name begins: ``C:``, ``https://``, ``data:``."""

MISSING = ("error", "skip")
"""Values of the option for missing images."""


@dataclass
class ImageLocator:
    """Finds images by the names that annotation files give.

    Names are relative to one of several folders, with slashes or backslashes, and may contain ``..`` as long as they
    stay below the root. A name that leads out of it (absolute, ``../../``, a drive, an address) is never followed; an
    image with the same file name in one of the folders is used in its place, if there is one.

    Attributes
    ----------
    root
        The folder of the source.
    skip
        Whether missing images are left out instead of being an error.
    strays
        Images that were used in place of a name that leads out, with that name.
    absent
        Images that were left out.
    """

    root: Path
    skip: bool = False
    strays: dict[Path, str] = field(default_factory=dict)
    absent: dict[Path, None] = field(default_factory=dict)
    _there: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)

    def find(self, name: str, folders: tuple[str, ...], manifest: Path) -> tuple[Path, str]:
        """Return an image, and its path below one of the folders, without leading dots.

        Parameters
        ----------
        name
            As the annotation file spells it.
        folders
            Below the root, with forward slashes, the root itself is empty; the first that holds the image counts.
        manifest
            The annotation file.

        Returns
        -------
        tuple of Path and str
            For an image that no folder has, a path in the first existing folder; the error is raised on reading.

        Raises
        ------
        SourceError
            If the name leads out of the root and no image of its file name is there, or two such names share one.
        """
        spelled = name.strip().replace("\\", "/")
        there = self._existing(folders)
        candidates = (
            []
            if ADDRESS.match(spelled)
            else [(folder, candidate) for folder in there if (candidate := _candidate(folder, spelled))]
        )
        found = next((pair for pair in candidates if _is_file(self.root / pair[1])), None)
        short = posixpath.normpath(spelled)
        if short == ".":
            raise SourceError(f"{manifest} names the image {name!r}. Expected the path of a file; correct it.")
        up = short.startswith("..")
        if not candidates or (up and found is None):
            return self._stray(name, posixpath.basename(spelled), there, manifest)
        folder, candidate = found or candidates[0]
        if up:
            return contained(self.root, candidate, manifest, SourceError), candidate
        return contained(self.root / folder, short, manifest, SourceError), short

    def skips(self, image: Path) -> bool:
        """Return whether an image is left out because it is missing, and count it."""
        if not self.skip or _is_file(image):
            return False
        self.absent[image] = None
        return True

    def log_summary(self, source: str) -> None:
        """Log the number of images that were left out, and of images used in place of names that lead out."""
        if self.absent:
            absent = len(self.absent), next(iter(self.absent))
            logger.warning("%s: images that are not there and were left out: %d (the first is %s)", source, *absent)
        if self.strays:
            path, name = next(iter(self.strays.items()))
            logger.warning(
                "%s: names that lead out of the folder and were not followed: %d; images of the same file name in it "
                "were taken (%s for %r)", source, len(self.strays), path, name[:200],
            )  # fmt: skip

    def _existing(self, folders: tuple[str, ...]) -> tuple[str, ...]:
        """Return the folders that exist, or else the first; cached for all images."""
        if folders not in self._there:
            inside = tuple(folder for folder in folders if _candidate("", folder) is not None)
            existing = tuple(folder for folder in inside if (self.root / folder).is_dir())
            self._there[folders] = existing or (*inside, "")[:1]
        return self._there[folders]

    def _stray(self, name: str, file: str, folders: Sequence[str], manifest: Path) -> tuple[Path, str]:
        paths = [contained(self.root / folder, file, manifest, SourceError) for folder in folders if file]
        path = next((path for path in paths if _is_file(path)), None)
        if path is None:
            raise SourceError(
                f"{manifest} names the image {name[:200]!r}, which leads out of {self.root}. Expected a path below "
                f"that folder; put an image of that file name in {self.root / folders[0]}, or correct the path."
            )
        if self.strays.setdefault(path, name) != name:
            raise SourceError(
                f"{manifest} names the images {self.strays[path][:200]!r} and {name[:200]!r}, which lead out of "
                f"{self.root} and have one file name. Expected paths below that folder; correct them."
            )
        return path, file


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _candidate(folder: str, name: str) -> str | None:
    """Join and resolve two paths; None if the result leads out."""
    candidate = posixpath.normpath(posixpath.join(folder, name))
    return None if posixpath.isabs(candidate) or candidate == ".." or candidate.startswith("../") else candidate
