"""Labels of the images of one run, read some batches ahead; from the label cache where it holds them."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from netdissect.activations import PREFETCHED_BATCHES, prefetch
from netdissect.caches.cache_folder import is_readable
from netdissect.caches.cache_note import CacheNote
from netdissect.concepts import ConceptData, Labels, Size
from netdissect.config import Protocol
from netdissect.dissect.label_cache import cache_file, read_cached_labels, write_through
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.errors import ConceptsError
from netdissect.scoring import ImageLabels


@dataclass(frozen=True)
class LabelReader:
    """The labels of a data set under a protocol.

    Attributes
    ----------
    data, protocol
        Of the run.
    cache
        Folder of the label cache; None: label maps are decoded each time.
    batch_size
        Images that are decoded at a time.
    stamp
        State of the data set when the run began; see `ConceptData.stamp`.
    log
        Receives events of the cache.
    """

    data: ConceptData
    protocol: Protocol
    cache: Path | None
    batch_size: int
    stamp: str
    log: RunLog

    def read(self, rows: Sequence[int]) -> Iterator[ImageLabels]:
        """Read the labels of the images `rows`. Reading all images in order fills the cache."""
        if self.cache is None:
            return self._decoded(rows)
        seen = self.stamp, self.data.digest
        file = cache_file(self.cache, self.data, self.protocol)
        if is_readable(file, "label maps are decoded instead"):
            return self._cached(file, rows)
        if rows != range(len(self.data)):
            return self._decoded(rows)
        note = CacheNote(data=str(self.data.root.resolve()), images=len(rows), detail=self.protocol.name)
        return write_through(file, self._decoded(rows), note, lambda: self._data_version() == seen, self.log)

    def _cached(self, file: Path, rows: Sequence[int]) -> Iterator[ImageLabels]:
        """Read labels from a file of the cache; one that is damaged is deleted, and what is left of it decoded."""
        done = 0
        try:
            for image in read_cached_labels(file, rows, self.data):
                yield image
                done += 1
        except ConceptsError as error:
            warnings.warn(f"{error}: it is deleted, and label maps are decoded again.", stacklevel=2)
            with suppress(OSError):  # in a folder that is read-only for this user
                file.unlink()
            yield from self._decoded(rows[done:]) if file.exists() else self.read(rows[done:])

    def refuse_changed(self, digest: str) -> None:
        """Raise if the data set is not the one of this digest, or has another stamp than at the beginning.

        Raises
        ------
        ConceptsError
            If it changed.
        """
        if self._data_version() != (self.stamp, digest):
            raise ConceptsError(
                f"files below {self.data.root} were changed while the run was under way: some were read before and "
                "some after the change. What was computed from them is not kept; run the same command again once they "
                "no longer change."
            )

    def _data_version(self) -> tuple[str, str]:
        return self.data.stamp(), self.data.digest

    def _decoded(self, rows: Sequence[int]) -> Iterator[ImageLabels]:
        side = self.protocol.segmentation_size

        def decoded(row: int) -> ImageLabels:
            labels: Labels = self.data.labels(row)
            if side is not None:
                labels = labels.resized(Size(side, side))
            return ImageLabels.of(labels, self.data, self.protocol.duplicates)

        parts = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        # One thread is faster than two during counting: half of the reading holds the interpreter lock.
        return chain.from_iterable(prefetch(lambda part: [decoded(row) for row in part], parts, 1, PREFETCHED_BATCHES))
