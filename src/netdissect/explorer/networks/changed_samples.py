"""Samples of a generator with changed units of a layer, and the segmenter that labels them.

The segmenter is the one that the user gave, or that the samples of the run record.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from netdissect.errors import NetdissectError, NetworkError
from netdissect.explorer.inference import InferenceWorker, NetworkInput, Pixels, refuse_other_basis
from netdissect.explorer.run_registry import OpenRun
from netdissect.models import Generator, Layer
from netdissect.models.surgery.layer_edits import LayerEditor, layer_editor, towards
from netdissect.result import LayerInfo
from netdissect.segmenters import Segmenter
from netdissect.segmenters.recorded_segmenter import load_recorded

KEPT_EDITORS = 8


class UnitChange(NamedTuple):
    """How some units of a layer are changed.

    Attributes
    ----------
    units
        Their indices.
    values : float32 (len(units),)
        Towards which activation they are moved.
    cells
        Rows and columns of the cells where they are; None: all.
    """

    units: tuple[int, ...]
    values: npt.NDArray[np.float32]
    cells: Sequence[tuple[int, int]] | None


class _Editor(NamedTuple):
    generator: Generator
    layer: Layer
    editor: LayerEditor


class SampleChanger:
    """Changes units in the generators of an explorer; all calls are made in the inference thread.

    Parameters
    ----------
    worker
        Holds the networks.
    """

    def __init__(self, worker: InferenceWorker) -> None:
        self._worker = worker
        self._editors: OrderedDict[tuple[str, str], _Editor] = OrderedDict()
        self._segmenters: dict[str, tuple[Segmenter | None, str | None]] = {}

    def images(
        self, run: OpenRun, layer: LayerInfo, sample: NetworkInput, change: UnitChange, strengths: Sequence[float]
    ) -> Pixels:
        """Draw a sample without the change, and with it at each strength.

        Parameters
        ----------
        run, layer
            The layer must be one of the network, not another basis of one.
        sample : int64 (2,)
            Seed and index.
        change
            What is changed.
        strengths
            See `netdissect.models.surgery.layer_edits.towards`.

        Returns
        -------
        uint8 (1 + len(strengths), H, W, 3)
            The images.

        Raises
        ------
        NetworkError
            If the network is no generator, or the layer is virtual.
        """
        generator, own, editor = self._editor(run, layer)
        values = torch.from_numpy(change.values)
        edits = [
            partial(towards, layer=own, units=change.units, values=values, strength=strength, cells=change.cells)
            for strength in strengths
        ]
        outputs = editor.outputs(torch.from_numpy(sample[None]), [torch.clone, *edits])
        drawn = np.concatenate([generator.pixels(output).cpu().numpy() for output in outputs])
        return np.ascontiguousarray(np.broadcast_to(drawn, (*drawn.shape[:3], 3)))

    def mode(self, run: OpenRun, layer: LayerInfo) -> Literal["partial", "full"]:
        """Return how much of the generator runs again for a change."""
        return self._editor(run, layer).editor.mode

    def segmenter(self, run: OpenRun) -> tuple[Segmenter | None, str | None]:
        """Return the segmenter of a run; or None, and why it cannot be loaded."""
        if run.segmenter is not None:
            return run.segmenter, None
        if run.id not in self._segmenters:
            try:
                recorded = load_recorded(run.result.info.data.masks, "the data set of the run")
                self._segmenters[run.id] = recorded, None
            except NetdissectError as error:
                self._segmenters[run.id] = None, str(error)
        return self._segmenters[run.id]

    def _editor(self, run: OpenRun, layer: LayerInfo) -> _Editor:
        refuse_other_basis(layer, "changed")
        network, layers = self._worker.network(run)
        if not isinstance(network, Generator):
            raise NetworkError(
                f"{network.name!r} takes images and draws none. Expected a run of a generator; of a classifier the "
                "classes are compared with and without units: the address of the image, /ablation."
            )
        key = run.id, layer.name
        if key not in self._editors or self._editors[key].generator is not network:
            own = next(each for each in layers if each.name == layer.name)
            self._editors[key] = _Editor(network, own, layer_editor(network, own))
            while len(self._editors) > KEPT_EDITORS:
                self._editors.popitem(last=False)
        self._editors.move_to_end(key)
        return self._editors[key]
