"""Scores of a classifier on one image, with and without units of a layer, by the code of the experiment `ablate`."""

from collections import OrderedDict

import numpy as np
import numpy.typing as npt
import torch

from netdissect.errors import NetworkError
from netdissect.experiments.ablate.predictions import Classifier, class_scores
from netdissect.explorer.inference import InferenceWorker, Pixels, refuse_other_basis
from netdissect.explorer.run_registry import OpenRun
from netdissect.models import Network
from netdissect.models.as_network import refuse_without_images
from netdissect.models.checkpoints import refuse_missing_weights
from netdissect.models.surgery.unit_ablation import AblationMode, unit_ablator
from netdissect.result import LayerInfo
from netdissect.training.class_names import class_names

Scores = npt.NDArray[np.float32]
KEPT_CLASSIFIERS = 8


class AblationWorker:
    """Ablates units in the networks of an explorer; all calls are made in the inference thread.

    Parameters
    ----------
    worker
        Holds the networks.
    """

    def __init__(self, worker: InferenceWorker) -> None:
        self._worker = worker
        self._classifies: dict[str, bool] = {}
        self._classifiers: OrderedDict[tuple[str, str], Classifier] = OrderedDict()

    def scores(self, run: OpenRun, layer: LayerInfo, pixels: Pixels, units: tuple[int, ...]) -> tuple[Scores, Scores]:
        """Return the scores of the classes, float32 (C,), with all units and with some ablated.

        Parameters
        ----------
        run, layer
            The layer must be one of the network, not another basis of one.
        pixels : uint8 (C, H, W)
            The image, of the size of the network's input.
        units
            Their activations are 0 everywhere.

        Raises
        ------
        NetworkError
            If the network is no classifier, or the layer is virtual.
        """
        whole, ablated = class_scores(self._classifier(run, layer), pixels[None], [(), units])
        return _row(whole), _row(ablated)

    def classifies(self, run: OpenRun, pixels: Pixels) -> bool:
        """Tell whether a network is a classifier: its output for an image is (batch, classes)."""
        if run.id not in self._classifies:
            network, _ = self._worker.network(run)
            self._classifies[run.id] = network.takes_images and _classifies(network, pixels)
        return self._classifies[run.id]

    def mode(self, run: OpenRun, layer: LayerInfo) -> AblationMode:
        """Return how much of the network runs again without the units."""
        return self._classifier(run, layer).ablator.mode

    def names(self, run: OpenRun, classes: int) -> tuple[str, ...] | None:
        """Return the names of the classes; None: they are not known."""
        names = class_names(self._worker.network(run)[0])
        return names if names is not None and len(names) == classes else None

    def _classifier(self, run: OpenRun, layer: LayerInfo) -> Classifier:
        refuse_other_basis(layer, "ablated")
        key = run.id, layer.name
        network, _ = self._worker.network(run)
        if network.draws:
            raise NetworkError(
                f"{network.name!r} is a generator and has no classes. 'netdissect intervene RUN' ablates its units and "
                "measures what disappears from its images."
            )
        refuse_without_images(network, "Comparing classes without units")
        if key in self._classifiers and self._classifiers[key].network is network:
            self._classifiers.move_to_end(key)
            return self._classifiers[key]
        refuse_missing_weights(network.name, network.module)
        self._classifiers[key] = Classifier(network, layer.name, unit_ablator(network, layer.name))
        while len(self._classifiers) > KEPT_CLASSIFIERS:
            self._classifiers.popitem(last=False)
        return self._classifiers[key]


def _row(scores: torch.Tensor) -> Scores:
    return np.asarray(scores[0].numpy())


def _classifies(network: Network, pixels: Pixels) -> bool:
    inputs = network.preprocessing(torch.from_numpy(pixels[None])).to(network.device)
    with torch.no_grad():
        output = network.forward(inputs)
    return isinstance(output, torch.Tensor) and output.ndim == 2
