"""Generate the synthetic data set: one labeled sample, a data set on disk, or training images in memory.

Training images have scene labels only. Objects, parts, materials, textures and colors are labeled only in the data set
that units are compared with.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from netdissect.concepts.build.parallel import map_in_order
from netdissect.concepts.build.sample import Channel, Sample
from netdissect.concepts.build.writer import WriteOptions, write_dataset
from netdissect.config import Progress
from netdissect.errors import ConfigError
from netdissect.process.cores import available_cores
from netdissect.progress import ShowProgress, shown
from netdissect.synthetic.draw_image import DrawnImage, draw
from netdissect.synthetic.scene_composer import THING_NAMES
from netdissect.synthetic.scenes import SCENE_NAMES

SMALLEST, LARGEST = 64, 128
BLOCK = 64  # images in one task of a worker that draws training images

FEW = 8  # up to this many blocks are drawn in this process, unless the caller sets workers
VISIBLE = 0.01  # an object counts as visible from this share of the pixels on

T = TypeVar("T")
Block = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def render(index: int, seed: int = 0, size: int = 96) -> Sample:
    """Draw one labeled image.

    Parameters
    ----------
    index
        Index of the image; each image can be drawn alone.
    seed
        Seed of the data set.
    size
        Size of the square image in pixels, 64 to 128.

    Returns
    -------
    Sample
        Image and exact label maps of its size; the writer names the colors.

    Raises
    ------
    ConfigError
        If the size is out of range.
    """
    _check_size(size)
    drawn = draw(index, seed, size)
    drawing = drawn.drawing
    object_labels = _channel([surface.thing for surface in drawing.surfaces], drawn)
    part_labels = _channel([surface.part for surface in drawing.surfaces], drawn)
    material_labels = _channel([surface.paint.material for surface in drawing.surfaces], drawn)
    texture_labels = _channel([surface.paint.texture for surface in drawing.surfaces], drawn)
    return Sample(
        name=f"synthetic/{seed}/{index // 1000:03d}/{index:06d}",
        image=drawn.image,
        labels={
            "scene": [drawn.scene] if drawn.scene else [],
            "object": [object_labels],
            "part": [part_labels],
            "material": [material_labels],
            "texture": [texture_labels],
        },
    )


def write_synthetic(
    out: str | Path,
    *,
    images: int = 4000,
    size: int = 96,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
    progress: ShowProgress = None,
) -> Path:
    """Write the synthetic data set in Broden's layout.

    Parameters
    ----------
    out
        The new folder.
    images
        Number of images, at least 1.
    size
        Size of the square images in pixels, 64 to 128; label maps are half as large.
    seed
        Seed of the data set; equal seeds give equal images and labels.
    workers
        Processes; None or 1: this process. The files are the same, byte for byte, for any number.
    overwrite
        Replace a finished data set at `out`.
    progress
        None: shown on a terminal or in a notebook. False: not. A function: called for every image and for every image's
        label maps.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ConfigError
        If `images` or `size` is out of range.
    ConceptsError
        If `out` is in the way or cannot be written.
    """
    _check_size(size)
    if images < 1:
        raise ConfigError(f"the number of synthetic images is {images}. Expected at least 1.")

    # Images are drawn in separate processes: the workers of the writer only read files or arrays.
    samples = map_in_order(partial(render, seed=seed, size=size), range(images), workers)
    options = WriteOptions(size=size, colors=True, image_format="png")
    about = {"source": "synthetic", "images": images, "seed": seed}
    with shown(progress) as display:

        def report(stage: str, done: int, _: int | None) -> None:
            display(stage, done, images)

        return write_dataset(out, samples, options, about=about, overwrite=overwrite, workers=workers, progress=report)


def training_set(
    images: int, *, size: int = 96, seed: int = 1, workers: int | None = None, progress: Progress | None = None
) -> Block:
    """Draw scenes in memory.

    Parameters
    ----------
    images
        Number of images.
    size
        Size of the square images in pixels, 64 to 128.
    seed
        Seed of the images; use another seed than that of the data set which units are compared with.
    workers
        Processes; None: one for each processor. The images are the same for any number.
    progress
        Called with the number of images drawn.

    Returns
    -------
    uint8 (N, size, size, 3), int64 (N,)
        Images, and the index of each one's scene in `SCENE_NAMES`.

    Raises
    ------
    ConfigError
        If the size is out of range.
    """
    _check_size(size)
    drawn_images = np.empty((images, size, size, 3), dtype=np.uint8)
    scenes = np.empty(images, dtype=np.int64)
    done = 0
    for block, names in _blocks(partial(_draw_block, size=size, seed=seed), images, workers):
        drawn_images[done : done + len(block)] = block
        scenes[done : done + len(block)] = names
        done += len(block)
        if progress:
            progress("training set", done, images)
    return drawn_images, scenes


def training_objects(
    images: int, *, size: int = 96, seed: int = 1, workers: int | None = None, progress: Progress | None = None
) -> npt.NDArray[np.bool_]:
    """Return which objects are visible in the images of `training_set`.

    Parameters
    ----------
    images, size, seed, workers
        As for `training_set`.
    progress
        Called with the number of images done.

    Returns
    -------
    bool (N, C)
        In the order of `THING_NAMES`: whether the object fills at least 1 % of the image.

    Raises
    ------
    ConfigError
        If the size is out of range.
    """
    _check_size(size)
    shown = np.empty((images, len(THING_NAMES)), dtype=np.bool_)
    done = 0
    for block in _blocks(partial(_objects_block, size=size, seed=seed), images, workers):
        shown[done : done + len(block)] = block
        done += len(block)
        if progress:
            progress("objects", done, images)
    return shown


def _blocks(work: Callable[[range], T], images: int, workers: int | None) -> Iterator[T]:
    ranges = [range(start, min(start + BLOCK, images)) for start in range(0, images, BLOCK)]
    # Starting processes takes longer than drawing a few hundred images.
    return map_in_order(work, ranges, workers or (available_cores() if len(ranges) > FEW else 1))


def _draw_block(indices: range, size: int, seed: int) -> Block:
    drawn = [draw(index, seed, size, swatch_share=0.0) for index in indices]
    scenes = [SCENE_NAMES.index(scene.scene) for scene in drawn if scene.scene]
    return np.stack([scene.image for scene in drawn]), np.array(scenes, dtype=np.int64)


def _objects_block(indices: range, size: int, seed: int) -> npt.NDArray[np.bool_]:
    shown = np.zeros((len(indices), len(THING_NAMES)), dtype=np.bool_)
    column = {name: index for index, name in enumerate(THING_NAMES)}
    for row, index in zip(shown, indices, strict=True):
        drawing = draw(index, seed, size, swatch_share=0.0).drawing
        pixels = np.bincount(drawing.surface_of.ravel(), minlength=len(drawing.surfaces))
        filled = np.zeros(len(THING_NAMES), dtype=np.int64)
        for surface, count in zip(drawing.surfaces, pixels.tolist(), strict=True):
            if surface.thing in column:
                filled[column[surface.thing]] += count
        row[:] = filled >= VISIBLE * size * size
    return shown


def _channel(names: list[str | None], drawn: DrawnImage) -> Channel:
    """Return a label map, given the name of each surface."""
    known = sorted({name for name in names if name})
    value = {name: i for i, name in enumerate(known, start=1)}
    table = np.array([value[name] if name else 0 for name in names], dtype=np.int32)
    return Channel(table[drawn.drawing.surface_of], {i: name for name, i in value.items()})


def _check_size(size: int) -> None:
    if not SMALLEST <= size <= LARGEST or size % 2:
        raise ConfigError(
            f"the size of synthetic images is {size} pixels. Expected an even size from {SMALLEST} to {LARGEST}, so "
            "that label maps are exactly half as large."
        )
