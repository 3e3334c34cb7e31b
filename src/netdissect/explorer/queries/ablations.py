"""Classes of a classifier on one image, with and without units."""

import numpy as np
import polars as pl
from scipy.special import softmax

from netdissect.errors import RequestError
from netdissect.explorer.inference import ProcessedImage
from netdissect.explorer.networks.class_scores import AblationWorker
from netdissect.explorer.queries.image_details import processed_image
from netdissect.explorer.queries.image_schemas import AblationResponse, ClassScore
from netdissect.explorer.queries.requests import AblationRequest, ChosenUnits
from netdissect.explorer.queries.unit_details import check_unit, labeled_units, nearest_quantile
from netdissect.explorer.run_registry import OpenRun


def ablation(run: OpenRun, image: ProcessedImage, request: AblationRequest, worker: AblationWorker) -> AblationResponse:
    """Return the most probable classes with all units and with the requested ones ablated; see `AblationRequest`.

    Raises
    ------
    RequestError
        If the layer has no such unit, or no detector of the concept.
    NetworkError
        If the network is no classifier.
    """
    layer, units = run.layer(request.layer), chosen_units(run, request)
    before, after = worker.scores(run, layer.info, image.network_input, units)
    names = worker.names(run, len(before))
    probabilities = [softmax(scores.astype(np.float64)) for scores in (before, after)]
    shown = {int(index) for values in probabilities for index in np.argsort(-values, kind="stable")[: request.classes]}
    return AblationResponse(
        image=processed_image(run, image),
        layer=request.layer,
        layer_name=layer.info.name,
        units=units,
        concept=request.concept,
        mode=worker.mode(run, layer.info),
        outputs=len(before),
        classes=tuple(
            ClassScore(
                index=index,
                name=None if names is None else names[index],
                probability=float(probabilities[0][index]),
                ablated_probability=float(probabilities[1][index]),
                score=float(before[index]),
                ablated_score=float(after[index]),
            )
            for index in sorted(shown, key=lambda index: (-probabilities[0][index], index))
        ),
    )


def best_classes(answer: AblationResponse) -> dict[str, str | float]:
    """Return what a page adds: the names of the most probable class before and after, and where its bars end."""

    def name(best: ClassScore) -> str:
        return f"class {best.index}" if best.name is None else best.name

    before = max(answer.classes, key=lambda each: each.probability)
    after = max(answer.classes, key=lambda each: each.ablated_probability)
    return {
        "before": name(before),
        "after": name(after),
        "end": max(before.probability, after.ablated_probability),
    }


def chosen_units(run: OpenRun, request: ChosenUnits) -> tuple[int, ...]:
    """Return the units of a request: those that it names, or all detectors of its concept at its quantile.

    Raises
    ------
    RequestError
        If the layer has no such unit, or no detector of the concept, or not exactly one of both is named.
    """
    layer = run.layer(request.layer)
    if bool(request.units) == (request.concept is not None):
        raise RequestError("units are named by index, or by their concept. Expected one of both.", 409)
    if request.concept is None:
        for unit in request.units:
            check_unit(layer.info, unit)
        return tuple(sorted(set(request.units)))
    labels = labeled_units(run, layer, nearest_quantile(run.result, request.quantile), None)
    found = labels.filter(pl.col("state") == "detector", pl.col("label") == request.concept)["unit"].to_list()
    if not found:
        raise RequestError(
            f"the layer {layer.info.name!r} has no detector of {request.concept!r}. Name a concept that one of "
            "its units detects, or units."
        )
    return tuple(found)
