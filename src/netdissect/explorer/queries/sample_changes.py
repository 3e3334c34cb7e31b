"""A sample of a generator without and with a change of some units, one image for each strength."""

from base64 import b64encode
from io import BytesIO

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from netdissect.errors import RequestError
from netdissect.experiments.interventions.areas import Floats, concept_areas
from netdissect.explorer.inference import Pixels, ProcessedImage
from netdissect.explorer.networks.changed_samples import SampleChanger, UnitChange
from netdissect.explorer.queries.ablations import chosen_units
from netdissect.explorer.queries.image_details import processed_image
from netdissect.explorer.queries.image_schemas import ConceptArea, EditedSample, EditResponse
from netdissect.explorer.queries.requests import EditRequest
from netdissect.explorer.queries.unit_details import nearest_quantile
from netdissect.explorer.run_registry import OpenRun
from netdissect.explorer.uploads import display_copy
from netdissect.result import LayerInfo, LayerResult
from netdissect.segmenters import Segmenter


def edited_sample(run: OpenRun, image: ProcessedImage, request: EditRequest, changer: SampleChanger) -> EditResponse:
    """Return a sample without and with a change of units; see `EditRequest`.

    Raises
    ------
    RequestError
        If the layer has no such unit or cell, or no detector of the concept.
    NetworkError
        If the network is no generator.
    """
    layer, units = run.layer(request.layer), chosen_units(run, request)
    _check_cells(layer.info, request)
    change = UnitChange(units, _values(run, layer, units, request), request.cells)
    images = changer.images(run, layer.info, image.network_input, change, request.strengths)
    segmenter, unavailable = changer.segmenter(run)
    areas = None if segmenter is None else concept_areas(segmenter, images)
    samples = []
    for index, strength in enumerate(request.strengths, start=1):
        seen = None if segmenter is None or areas is None else _seen(segmenter, areas[0], areas[index])
        samples.append(_compared(strength, images[0], images[index], seen))
    height, width = layer.info.height, layer.info.width
    return EditResponse(
        image=processed_image(run, image),
        layer=request.layer,
        layer_name=layer.info.name,
        units=units,
        concept=request.concept,
        how=request.how,
        cells=height * width if request.cells is None else len(set(request.cells)),
        grid=(height, width),
        mode=changer.mode(run, layer.info),
        before=_data_url(images[0]),
        samples=tuple(samples),
        segmenter=None if segmenter is None else segmenter.spec,
        segmenter_unavailable=unavailable,
    )


def _compared(strength: float, before: Pixels, after: Pixels, areas: tuple[ConceptArea, ...] | None) -> EditedSample:
    change = np.abs(after.astype(np.int16) - before).max(axis=2)
    largest = int(change.max())
    return EditedSample(
        strength=strength,
        image=_data_url(after),
        difference=_data_url(np.rint(change * (255 / max(largest, 1))).astype(np.uint8)),
        largest_change=largest,
        changed=float((change > 0).mean()),
        areas=areas,
    )


def _seen(segmenter: Segmenter, before: Floats, after: Floats) -> tuple[ConceptArea, ...]:
    """Return the concepts that fill a part of the image without or with the change, the largest change first."""
    found = [
        ConceptArea(concept=label.concept, category=label.category, before=one, after=other)
        for label, one, other in zip(segmenter.labels, before.tolist(), after.tolist(), strict=True)
        if one or other
    ]
    return tuple(sorted(found, key=lambda area: (-abs(area.after - area.before), -area.before, area.concept)))


def _values(run: OpenRun, layer: LayerResult, units: tuple[int, ...], request: EditRequest) -> npt.NDArray[np.float32]:
    """Return towards which activation units are moved."""
    if request.how == "ablate":
        return np.zeros(len(units), np.float32)
    own = layer.thresholds.filter(pl.col("quantile") == nearest_quantile(run.result, request.quantile))
    return own.sort("unit")["threshold"].to_numpy()[list(units)]


def _check_cells(layer: LayerInfo, request: EditRequest) -> None:
    for row, column in request.cells or ():
        if row >= layer.height or column >= layer.width:
            raise RequestError(
                f"the layer {layer.name!r} has no cell {row}, {column}: its maps have {layer.height} rows of "
                f"{layer.width} cells, counted from 0."
            )


def _data_url(pixels: Pixels) -> str:
    """Return an image, uint8 (H, W) or (H, W, 3), as a PNG file, at most as large as images are displayed."""
    file = BytesIO()
    Image.fromarray(display_copy(Image.fromarray(pixels))).save(file, "PNG")
    return "data:image/png;base64," + b64encode(file.getvalue()).decode()
