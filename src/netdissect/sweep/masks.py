"""The masks of one layer on disk, image by image, to be read back in any order.

About a fiftieth of the size of the activations: two bytes for each pixel that is on, four for each unit.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect.errors import ResultError

Places = npt.NDArray[np.uint32]


class MaskFile:
    """The pixels of M masks on each image.

    Parameters
    ----------
    path
        The file; made anew.
    masks
        M.
    pixels
        How many pixels the largest label map has.
    """

    def __init__(self, path: Path, masks: int, pixels: int) -> None:
        self.path = path
        self._masks = masks
        self._kind = np.dtype(np.min_scalar_type(max(pixels - 1, 0)))
        self._offsets = [0]
        self.path.write_bytes(b"")

    def append(self, on: Places, places: Places) -> None:
        """Write one image: pixels of each mask (M,), and the places of all of them.

        Raises
        ------
        ResultError
            If the disk is full or cannot be written.
        """
        content = on.astype(np.uint32).tobytes() + places.astype(self._kind).tobytes()
        try:
            with self.path.open("ab") as file:
                file.write(content)
        except OSError as error:
            raise ResultError(
                f"{self.path} cannot be written ({error}). What was finished is kept: free space and run the same "
                "command again, or leave --permutations out."
            ) from error
        self._offsets.append(self._offsets[-1] + len(content))

    def read(self, image: int) -> tuple[Places, Places]:
        """Return pixels on, uint32 (M,), and places, uint32, of the image that was written as number `image`."""
        start, stop = self._offsets[image : image + 2]
        with self.path.open("rb") as file:
            file.seek(start)
            content = file.read(stop - start)
        on = np.frombuffer(content, np.uint32, self._masks)
        return on, np.frombuffer(content, self._kind, offset=4 * self._masks).astype(np.uint32)

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """How many places each image has, int64 (N,)."""
        return (np.diff(self._offsets) - 4 * self._masks) // self._kind.itemsize
