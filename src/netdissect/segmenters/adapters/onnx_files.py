"""Segmenters in ONNX files: ``onnx:FILE``, run by ONNX Runtime.

The graph takes one input, float32 (B, 3, H, W). Its first output is either scores of classes before the softmax,
float32 (B, K, h, w), or the class of each pixel, integers (B, h, w) or (B, 1, h, w). A file of labels names the
classes, and ``preprocessor_config.json`` beside the graph says how images are normalized.

A graph may keep its weights in other files: these are in its folder and as large as the graph says. A graph with
operations of other domains than ONNX's own, or of a later version than is known, is refused.
"""

import hashlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netdissect.concepts import Size
from netdissect.errors import SegmenterError
from netdissect.extras import need
from netdissect.models import Preprocessing
from netdissect.models.onnx_files.external_data import external_data
from netdissect.models.onnx_files.graph_tensors import STANDARD_DOMAINS, graph_tensors, node_tensors
from netdissect.models.onnx_files.runtime import open_session, refuse_newer_format
from netdissect.models.preprocessing_configs import LARGEST_INPUT, find_config
from netdissect.segmenters.label_scores import Head, activated, digest_of, maps_in_chunks, stretched
from netdissect.segmenters.label_tables import ClassLabels, class_labels, read_labels
from netdissect.segmenters.segmenter import Images, LabelMaps, Segmenter, SegmenterOptions

LARGEST_GRAPH = 2**31 - 1
"""Bytes of a graph without its external data: the limit of its format."""
LARGEST_OUTPUT = 2**28
"""Values that the network may give for one image."""


def load(spec: str, name: str, options: SegmenterOptions) -> Segmenter:
    """Load a graph; see `load_segmenter`."""
    path = Path(name)
    weights = _check_graph(path)
    graph = _Graph(spec, path)
    first = graph.raw(torch.zeros(1, 3, *graph.preprocessing.size))
    scored = first.is_floating_point()
    named = {} if options.labels is None else read_labels(options.labels)
    count = first.shape[1] if scored else max(named, default=-1) + 1
    classes = class_labels(spec, None, count, options.labels).keep_words(spec, options.words)
    heads = (Head(classes.ids),)
    maps = partial(_class_maps, graph, classes)
    if scored:
        scores = partial(graph.scores, heads)
        maps = partial(maps_in_chunks, scores=scores, heads=heads, min_score=options.min_score)
    return Segmenter(
        spec=spec,
        labels=classes.labels,
        digest=digest_of(weights, classes, heads, graph.preprocessing, options.min_score),
        label_maps=maps,
        input_size=graph.preprocessing.size,
    )


class _Graph:
    """A session of ONNX Runtime and the preprocessing of its input."""

    def __init__(self, spec: str, path: Path) -> None:
        self.spec = spec
        runtime = need("onnxruntime", "onnx", f"Segmenter {spec!r}")
        try:
            self._session = open_session(runtime, str(path), torch.get_num_threads())
        except Exception as error:  # onnxruntime has a class for each of its status codes
            raise SegmenterError(
                f"ONNX Runtime {runtime.__version__} cannot open {path} ({_reason(error)}). Expected a complete graph "
                "of operations that it knows; export it again."
            ) from error
        self._input = self._only_input()
        self.preprocessing = self._preprocessing(path)
        self._check_output()

    def _only_input(self) -> Any:
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if inputs else []
        channels = shape[1] if len(shape) == 4 else 0
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or (channels != 3 and isinstance(channels, int)):
            seen = ", ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs)
            raise SegmenterError(
                f"the segmenter {self.spec!r} has the inputs {seen or 'none'}. Expected one, float32 (batch, 3, "
                "height, width): an image."
            )
        return inputs[0]

    def _preprocessing(self, path: Path) -> Preprocessing:
        config = find_config(path)
        if config is None:
            raise SegmenterError(
                f"beside {path} there is no preprocessor_config.json, which says how images are normalized. Expected "
                'one such as {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"height": 512, '
                '"width": 512}}, as transformers writes it.'
            )
        found = Preprocessing.read(config)
        height, width = (
            side if isinstance(side, int) else own for side, own in zip(self._input.shape[2:], found.size, strict=True)
        )
        if not 0 < height * width <= LARGEST_INPUT:
            raise SegmenterError(
                f"the segmenter {self.spec!r} takes images of {height:,} x {width:,} pixels. Expected at most "
                f"{LARGEST_INPUT:,} pixels."
            )
        return Preprocessing(Size(height, width), found.mean, found.std, found.interpolation)

    def _check_output(self) -> None:
        shape = self._session.get_outputs()[0].shape
        values = math.prod(side for side in shape[1:] if isinstance(side, int))
        if values > LARGEST_OUTPUT:
            raise SegmenterError(
                f"the segmenter {self.spec!r} gives {values:,} values for an image, {shape}. Expected at most "
                f"{LARGEST_OUTPUT:,}."
            )

    def raw(self, inputs: Tensor) -> Tensor:
        """Return the first output: scores (B, K, h, w), or the class of each pixel (B, 1, h, w)."""
        fixed = self._input.shape[0]
        parts = torch.split(inputs, fixed) if isinstance(fixed, int) else (inputs,)
        if len(parts[-1]) != len(parts[0]) or (isinstance(fixed, int) and len(parts[0]) != fixed):
            missing = (fixed or 1) - len(parts[-1])
            parts = (*parts[:-1], torch.cat([parts[-1], parts[-1][-1:].expand(missing, -1, -1, -1)]))
        name = self._session.get_outputs()[0].name
        try:
            outputs = [self._session.run([name], {self._input.name: part.numpy()})[0] for part in parts]
        except Exception as error:
            raise SegmenterError(f"ONNX Runtime fails in the segmenter {self.spec!r} ({_reason(error)}).") from error
        found = torch.from_numpy(np.concatenate(outputs))[: len(inputs)]
        if not found.is_floating_point() and found.ndim == 3:
            found = found[:, None]
        if found.ndim != 4 or not (found.is_floating_point() or found.shape[1] == 1):
            raise SegmenterError(
                f"the segmenter {self.spec!r} gives {found.dtype} {tuple(found.shape)}. Expected scores (batch, "
                "classes, height, width), or the class of each pixel, integers (batch, height, width), as its first "
                "output."
            )
        return found

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return the input of pixels, float32 (B, 3, H, W) from 0 to 255."""
        mean, std = (
            torch.tensor(each).view(-1, 1, 1) * 255 for each in (self.preprocessing.mean, self.preprocessing.std)
        )
        return ((stretched(pixels, self.preprocessing) - mean) / std).contiguous()

    def scores(self, heads: tuple[Head, ...], pixels: Tensor, size: Size | None) -> Tensor:
        """Return scores of classes."""
        return activated(self.raw(self.normalized(pixels)), heads, size)


def _class_maps(graph: _Graph, named: ClassLabels, images: Images, size: Size) -> LabelMaps:
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()
    classes = graph.raw(graph.normalized(pixels)).numpy()
    if classes.min() < 0 or classes.max() >= len(named.ids):
        raise SegmenterError(
            f"the segmenter {graph.spec!r} gives the classes {classes.min()} to {classes.max()}, but the file of "
            f"labels names 0 to {len(named.ids) - 1}. Expected a line for each class; an empty line for one that is no "
            "concept."
        )
    return named.label_maps(classes, size)


def _check_graph(path: Path) -> str:
    """Check a graph before it is opened, and return the digest of its content and of its external data.

    Raises
    ------
    SegmenterError
        If it is missing, too large or no ONNX graph, has operations of another domain or a later version, or its
        external data lead out of its folder or are shorter than it says.
    """
    onnx = need("onnx", "onnx", f"Segmenter onnx:{path}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise SegmenterError(
            f"{path} cannot be opened ({error.strerror}). Expected an ONNX graph; correct the path."
        ) from error
    if not path.is_file() or size > LARGEST_GRAPH:
        raise SegmenterError(
            f"{path} is no file or has {size:,} bytes. Expected an ONNX graph of at most {LARGEST_GRAPH:,}."
        )
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # its parser raises whatever it does on foreign bytes
        raise SegmenterError(
            f"{path} is no ONNX graph ({_reason(error)}). Expected a whole file; export it again."
        ) from error
    domains = [one.domain for one in model.opset_import if one.domain not in STANDARD_DOMAINS]
    if domains:
        raise SegmenterError(
            f"{path} needs operations of the domain {domains[0]!r}. Expected those of ONNX itself; export it without "
            "custom operations."
        )
    refuse_newer_format(model, path, SegmenterError)
    digest = hashlib.sha256(path.read_bytes())
    tensors = [*graph_tensors(model.graph)]
    for function in model.functions:
        tensors += node_tensors(function.node)
    outside = [external_data(tensor, path, SegmenterError) for tensor in tensors]
    for external in sorted({one.file for one in outside if one is not None}):
        with external.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
