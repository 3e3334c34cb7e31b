"""A segmenter: the label of each pixel of an image, from a network instead of a person.

    transformers:NAME_OR_DIR        a semantic, panoptic or text-prompted model (extra "transformers")
    torchvision:NAME[@FILE]         DeepLabV3, FCN or LRASPP, with its own weights or those of a file
    onnx:FILE                       a graph with a list of labels (extra "onnx")
    python:package.module:factory   what the factory returns: an object with `labels` and `segment`
    FILE.safetensors                a segmenter that netdissect trained

Each is loaded by a module of `netdissect.segmenters.adapters`, which is imported only for its own specifications.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.concepts.build.synonyms import split_names
from netdissect.errors import SegmenterError, ShapeError

if TYPE_CHECKING:
    from torch import nn

Images = npt.NDArray[np.uint8]
LabelMaps = npt.NDArray[np.int32]

SAFETENSORS = ".safetensors"
ADAPTERS = {
    "transformers": "transformers_models",
    "torchvision": "torchvision_models",
    "onnx": "onnx_files",
    "python": "python_factories",
}
TRAINED = "trained_segmenters"
EXPECTED = (
    "transformers:NAME_OR_DIR, torchvision:NAME, onnx:FILE, python:package.module:factory or the .safetensors file of "
    "a segmenter that netdissect trained"
)


class SegmentLabel(NamedTuple):
    """A label that a segmenter gives to pixels.

    Attributes
    ----------
    name
        Its name; synonyms follow after semicolons.
    category
        Its category in a data set.
    """

    name: str
    category: str = "object"

    @property
    def concept(self) -> str:
        """Its name in a data set.

        >>> SegmentLabel("Upper_clothes; top").concept, SegmentLabel("black", "color").concept
        ('upper clothes', 'black-c')
        """
        return (*split_names(self.name, self.category), self.name)[0]


@dataclass(frozen=True)
class SegmenterOptions:
    """What is said about a segmenter beside its specification.

    Attributes
    ----------
    labels
        File with the names of its classes; None: its own names.
    words
        File with words: of a text-prompted model, those that it searches for; of another one, the labels that are kept.
        None: all labels of the model.
    min_score
        Pixels with a lower score of their label are unlabeled. None: 0.5 for a text-prompted model, otherwise 0.
    """

    labels: Path | None = None
    words: Path | None = None
    min_score: float | None = None


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A loaded segmenter.

    Attributes
    ----------
    spec
        As it was specified.
    labels
        Label id i is that of ``labels[i - 1]``.
    digest
        SHA-256 of everything that decides its label maps, as far as it is known: weights, preprocessing, labels, limit.
    label_maps
        Function of images, uint8 (B, H, W, 3), and a size (h, w) that returns their label maps.
    input_size
        Images are stretched to this size before the network; None: images of any size are taken as they are.
    module
        Scores of the labels as a module, or None: float32 (B, 3, H, W), RGB from 0 to 255, becomes float32
        (B, len(labels), h, w) in the order of `labels`. It is differentiable.
    """

    spec: str
    labels: tuple[SegmentLabel, ...]
    digest: str
    label_maps: Callable[[Images, Size], LabelMaps] = field(repr=False)
    input_size: Size | None = None
    module: "nn.Module | None" = field(default=None, repr=False)

    def segment(self, images: Images, size: Size | None = None) -> LabelMaps:
        """Label the pixels of images.

        Parameters
        ----------
        images : uint8 (B, H, W, 3)
            RGB images of one size.
        size
            Height and width of the label maps, which cover the whole image. None: those of the images.

        Returns
        -------
        int32 (B, L, h, w)
            Label ids; 0 is unlabeled. A pixel may have a label in each of the L channels.

        Raises
        ------
        ShapeError
            If the images are no uint8 array of this shape.
        SegmenterError
            If the segmenter fails on them.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
            raise ShapeError(
                f"the images for the segmenter {self.spec!r} are {images.dtype} {images.shape}. Expected uint8 (batch, "
                "height, width, 3), RGB."
            )
        return self.label_maps(images, size or Size(*images.shape[1:3]))


def load_segmenter(
    spec: str,
    *,
    labels: str | Path | None = None,
    words: str | Path | None = None,
    min_score: float | None = None,
) -> Segmenter:
    """Load a segmenter by its specification.

    Parameters
    ----------
    spec
        ``transformers:NAME_OR_DIR``, ``torchvision:NAME``, ``onnx:FILE``, ``python:package.module:factory``, or the
        ``.safetensors`` file of a segmenter that netdissect trained.
    labels
        File with the names of its classes: a name on each line, or CSV with the column ``name``, and optionally
        ``value`` (index of the class) and ``category``. An empty name means unlabeled. None: the names of the model.
    words
        File with words, a word on each line or CSV with the columns ``name`` and ``category``. A text-prompted model
        searches for them; of the labels of another model only these are kept.
    min_score
        Pixels with a lower score of their label are unlabeled; 0 to 1. None: 0.5 for a text-prompted model, otherwise
        0.

    Returns
    -------
    Segmenter
        On the CPU.

    Raises
    ------
    SegmenterError
        If there is no such segmenter, it cannot be loaded, or its labels are not known.
    """
    if not isinstance(spec, str):
        raise SegmenterError(f"the segmenter is a {type(spec).__name__}. Expected text: {EXPECTED}.")
    if min_score is not None and not 0 <= min_score <= 1:
        raise SegmenterError(f"the least score is {min_score}. Expected a number from 0 to 1.")
    kind, _, name = spec.partition(":")
    if spec.endswith(SAFETENSORS) and kind not in ADAPTERS:
        kind, name, adapter = SAFETENSORS, spec, TRAINED
    elif kind in ADAPTERS and name:
        adapter = ADAPTERS[kind]
    else:
        raise SegmenterError(f"there is no segmenter {spec!r}. Expected {EXPECTED}.{_is_it_a_folder(spec)}")
    options = SegmenterOptions(
        None if labels is None else Path(labels), None if words is None else Path(words), min_score
    )
    loaded: Segmenter = importlib.import_module(f"netdissect.segmenters.adapters.{adapter}").load(spec, name, options)
    return loaded


def _is_it_a_folder(spec: str) -> str:
    path = Path(spec)
    if (path / "config.json").is_file():
        return f" This is the folder of a model: transformers:{spec}."
    return f" This is a file: onnx:{spec}." if path.suffix == ".onnx" else ""
