"""Gradients of the scores of a classifier with respect to layers: one backward pass of an image serves all of them.

    check_classifier(network, layers) -> number of classes
    ClassPass.predicted -> int64 (n,): the class of each image
    ClassPass.gradients -> float64 (n, U) of each layer

The score of a class is the output of the network, before any softmax that follows. A gradient is summed over the cells
of the layer: its product with a vector is the derivative of the score when the vector is added in every cell.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from netdissect.concepts.array_file import NO_ARRAY
from netdissect.config import Progress
from netdissect.dissect.devices import number_format, torch_device
from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import NetworkError, ResultError
from netdissect.models import Layer, Network
from netdissect.models.checkpoints import refuse_missing_weights
from netdissect.models.outputs import first_tensor
from netdissect.models.surgery.linear_head import dummy_input
from netdissect.paths import writing
from netdissect.result.files import write_whole

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STAGE = "class gradients"
PART_IMAGES = 256  # predictions in one file
GRADIENT_IMAGES = 16
"""Images of one backward pass at most: it holds the activations of everything behind the first layer."""


def check_classifier(network: Network, layers: Sequence[Layer]) -> int:
    """Return the number of classes of a network, after one backward pass from a class to all layers.

    Raises
    ------
    NetworkError
        If it is no classifier, or its scores have no gradient in a layer.
    CheckpointError
        If its checkpoint lacked weights.
    """
    if not network.takes_images:
        raise _no_classes(network, "takes no images")
    refuse_missing_weights(network.name, network.module)
    images = dummy_input(network)
    with torch.no_grad():
        scores = class_scores(network, images)
    score_gradients(network, layers, images, 0)
    return scores.shape[1]


def class_scores(network: Network, images: Tensor) -> Tensor:
    """Return the scores of normalized images, (B, C, H, W), for each class: float32 (B, classes).

    Raises
    ------
    NetworkError
        If the network is no classifier.
    """
    output = first_tensor(network.forward(images))
    if output is None or output.ndim != 2 or output.shape[1] < 2:
        raise _no_classes(network, "returns " + ("no tensor" if output is None else f"{tuple(output.shape)}"))
    if getattr(network.module, "num_classes", None) == 0:  # timm's mark of a network without its classifier
        raise _no_classes(network, f"returns {tuple(output.shape)} features")
    return output.float()


def _no_classes(network: Network, seen: str) -> NetworkError:
    return NetworkError(
        f"Network {network.name!r} {seen}, so that there is no class whose score could depend on a concept. Expected "
        "a classifier, which returns (images, classes), for --tcav; leave it out for a network without classes."
    )


def score_gradients(network: Network, layers: Sequence[Layer], images: Tensor, target: int) -> Floats:
    """Return the gradient of the score of a class, summed over the cells of each layer.

    Parameters
    ----------
    network
        A classifier.
    layers
        Of the network, U units in all.
    images : float32 (B, C, H, W)
        Normalized, on the network's device.
    target
        Index of the class.

    Returns
    -------
    float64 (B, U)
        The layers after each other.

    Raises
    ------
    NetworkError
        If a layer does not run, or the score has no gradient.
    """
    with torch.enable_grad(), _watched(network, layers) as outputs:
        total = class_scores(network, images)[:, target].sum()  # images do not depend on each other
        missing = next((layer.name for layer in layers if layer.name not in outputs), None)
        if missing is not None:
            raise NetworkError(
                f"Layer {missing!r} of network {network.name!r} returned no tensor in this forward pass. Expected one "
                "for --tcav; choose a layer that always runs."
            )
        kept = [outputs[layer.name] for layer in layers]
        try:
            slopes = torch.autograd.grad(total, kept, allow_unused=True)
        except RuntimeError as error:  # nothing on the way keeps a graph, or something overwrites what it needs
            raise NetworkError(
                f"The scores of network {network.name!r} have no gradient in its layers ({str(error)[:120]}). Expected "
                "a network of differentiable torch operations for --tcav, such as those of torchvision and timm."
            ) from error
    pairs = zip(layers, kept, slopes, strict=True)
    sums = [_cell_sums(layer, torch.zeros_like(values) if slope is None else slope) for layer, values, slope in pairs]
    return np.concatenate(sums, axis=1)


def _cell_sums(layer: Layer, slope: Tensor) -> Floats:
    maps = slope[:, :, None, None] if layer.layout is None else layer.layout.read(slope, layer.grid)
    return np.asarray(maps.double().sum(dim=(2, 3)).cpu().numpy())


@contextmanager
def _watched(network: Network, layers: Sequence[Layer]) -> Iterator[dict[str, Tensor]]:
    """Keep the output of each layer, as what the rest of the network depends on."""
    outputs, modules = dict[str, Tensor](), dict(network.module.named_modules(remove_duplicate=False))

    def keep(name: str, output: object) -> object:
        leaves, structure = tree_flatten(output)
        index = next((index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)), None)
        if index is None:
            return output
        # The graph begins at the first layer: what is before it needs no memory.
        values = leaves[index]
        outputs[name] = values if values.requires_grad else values.detach().requires_grad_()
        leaves[index] = outputs[name].clone()  # the next operation may work in place
        return tree_unflatten(leaves, structure)

    hooks = [
        modules[layer.name].register_forward_hook(lambda _module, _inputs, output, name=layer.name: keep(name, output))
        for layer in layers
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class ClassPass:
    """Runs a classifier over images of a data set; what is finished is kept in files.

    Attributes
    ----------
    source
        Network, data and configuration.
    layers
        Whose gradients are taken.
    folder
        Of the files: of these inputs alone.
    progress
        Receives images.
    """

    source: DissectionInputs
    layers: Sequence[Layer]
    folder: Path
    progress: Progress | None = None

    def predicted(self, rows: Ints) -> Ints:
        """Return the class of the highest score on images, int64 (n,)."""
        parts = []
        for start in range(0, len(rows), PART_IMAGES):
            part = rows[start : start + PART_IMAGES]
            parts.append(_kept(self.folder / f"predicted-{start:08d}.npy", partial(self._predict, part)))
            if self.progress:
                self.progress(STAGE, start + len(part), len(rows))
        return np.concatenate(parts)

    def gradients(self, target: int, rows: Ints) -> list[Floats]:
        """Return the gradients of the score of a class on images, float64 (n, U) of each layer."""
        found = _kept(self.folder / f"gradients-{target:08d}.npy", partial(self._gradients, target, rows))
        return np.split(found, np.cumsum([layer.units for layer in self.layers])[:-1], axis=1)

    def _predict(self, rows: Ints) -> Ints:
        with torch.no_grad():
            return np.concatenate(
                [
                    class_scores(self.source.network, images).argmax(dim=1).cpu().numpy()
                    for images in self._batches(rows, self.source.config.images_per_batch)
                ]
            )

    def _gradients(self, target: int, rows: Ints) -> Floats:
        size = min(self.source.config.images_per_batch, GRADIENT_IMAGES)
        network = self.source.network
        return np.concatenate(
            [score_gradients(network, self.layers, images, target) for images in self._batches(rows, size)]
        )

    def _batches(self, rows: Ints, size: int) -> Iterator[Tensor]:
        """Yield normalized images on the device of the run, in its number format."""
        source, device = self.source, torch_device(self.source.config.device)
        with source.network.prepared(device), number_format(device, source.config):
            for start in range(0, len(rows), size):
                pixels = torch.from_numpy(source.images.read(rows[start : start + size].tolist()))
                yield source.network.preprocessing(pixels.to(device))


def _kept(path: Path, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the array in a file, which is made if it is not there.

    Raises
    ------
    ResultError
        If the file is damaged, or cannot be written.
    """
    if not path.exists():
        array = make()
        with writing(path.parent, "What was finished is kept: free space and run the same command again."):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda file: np.save(file, array))
        return array
    try:
        found: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except NO_ARRAY as error:
        raise ResultError(f"{path} is damaged ({error}). Remove it, and run the same command again.") from error
    return found
