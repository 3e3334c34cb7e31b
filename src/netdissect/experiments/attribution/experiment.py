"""Which units speak for a class, and for the decision on one picture.

Where a layer is pooled into a linear classifier, the score of a class is its bias plus one term for each unit,
weight times pooled activation: the unit's contribution. Nothing is left over.

Source: Zhou et al. 2018 :cite:p:`zhou2018interpreting`, on explaining decisions by units.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field

from netdissect.cli_options import Option
from netdissect.config import OneOrMore, Progress, Protocol, one_or_more
from netdissect.dissect.work_dir.fingerprint import layer_info
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError
from netdissect.experiments.effect_sizes import decide, mean_interval
from netdissect.experiments.outcome import Conclusion, ExperimentResult
from netdissect.models import Network
from netdissect.models.surgery.linear_head import HeadRecorder, LinearHead, find_head
from netdissect.result import Result
from netdissect.scoring import passes
from netdissect.synthetic import SCENE_NAMES
from netdissect.training.classification_data import pixel_batches
from netdissect.training.workspace import Workspace

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

QUESTION = "Which units speak for a decision, and are they units that detect a concept?"
PAPER = (
    "Labels and masks of the units that contribute most to a prediction can explain it; this is shown on examples, "
    "without a count."
)


class AttributionConfig(BaseModel):
    """How many units and pictures are listed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str | None = Field(
        None, description="Layer that is pooled. None: the dissection's last, or the last convolution."
    )
    top: int = Field(5, ge=1, description="Strongest units that are listed.")
    shown: int = Field(6, ge=1, description="Pictures that are explained one by one, spread over all.")
    classes: Annotated[tuple[str, ...] | None, OneOrMore, Option(hidden=True)] = Field(
        None, description="Names of the outputs, in order. None: numbers."
    )
    batch_size: int = Field(64, gt=0, description="Pictures in a forward pass.")


@dataclass(frozen=True)
class _Explained:
    """Every picture's decision, and the maps of the units that speak for it.

    Attributes
    ----------
    named
        int64 (N,): class with the highest score.
    scores
        float32 (N,): that score.
    contributions
        float32 (N, U): to that score.
    maps
        float32 (N, top, h, w): of the strongest units, the strongest first.
    """

    named: Ints
    scores: Floats
    contributions: Floats
    maps: Floats

    def strongest(self, top: int) -> Ints:
        """Units by falling contribution, int64 (N, top)."""
        return np.argsort(-self.contributions, axis=1, kind="stable")[:, :top]


def attribution(
    network: Network,
    pictures: Sequence[Path],
    config: AttributionConfig | None = None,
    *,
    result: Result | None = None,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Split decisions into the contributions of units.

    Parameters
    ----------
    network
        A classifier that ends in a linear layer on a pooled layer; see
        `netdissect.models.surgery.linear_head.find_head`.
    pictures
        Files; they need no labels.
    config
        None: the strongest five units of six pictures and of every class that is named.
    result
        A dissection that holds the layer: it adds labels and thresholds, and with it the verdict.
    progress
        Told of pictures.

    Returns
    -------
    Outcome
        `table`: scope (class: mean over the pictures on which the class is named; image), image, class, pictures,
        score, rank (0 is strongest), unit, contribution, share (of all contributions above 0), and with a dissection
        label, category, iou. `further["pictures"]`: for each picture image, class, score, share (of the strongest
        units), half (how many units make half of what speaks for the class), and detectors (share of detectors
        among the strongest). `further["maps"]`: image, rank, unit, threshold, row, column, activation, for figures.
        `further["units"]`, with a dissection: unit, label, category, iou, threshold, detector.

    Raises
    ------
    NetworkError
        If the network has another structure.
    ConfigError
        If there is no picture, or names are given for another number of classes.
    """
    config = config or AttributionConfig()
    seconds: dict[str, float] = {}
    head = find_head(network, config.layer or (list(result.layers)[-1] if result else None))
    pictures = one_or_more(pictures)
    _check(head, pictures, config)
    with timed("pictures", seconds), network.prepared():
        explained = _explain(network, head, pictures, config, progress)
    root = Path(os.path.commonpath([path.resolve().parent for path in pictures]))
    names = [path.resolve().relative_to(root).as_posix() for path in pictures]
    labels = _labels(result, head.layer.name)
    rows = [*_class_rows(explained, config), *_image_rows(explained, names, config)]
    table = pl.DataFrame(rows, infer_schema_length=None)
    table = (
        table if labels is None else table.join(labels.drop("threshold"), on="unit", how="left", maintain_order="left")
    )
    made = config.model_dump(mode="json") | {
        "network": network.name,
        "pictures": len(pictures),
        "root": str(root),
        "layer": layer_info(head.layer).model_dump(mode="json"),
        "size": list(network.preprocessing.size),
        "protocol": (Protocol() if result is None else result.info.config.protocol).model_dump(mode="json"),
    }
    further = {
        "pictures": _picture_table(explained, names, config, labels),
        "maps": _map_table(explained, names, config, labels),
    } | ({} if labels is None else {"units": labels})
    return ExperimentResult("attribution", table, conclude(table, config, extra=further), made, seconds, further)


def conclude(table: pl.DataFrame, config: AttributionConfig, *, extra: Mapping[str, pl.DataFrame]) -> Conclusion:
    """Compare the share of detectors among the strongest units with that among all units.

    Parameters
    ----------
    table
        Of `attribution`; it holds labels if there is a dissection.
    config
        How many units are the strongest.
    extra
        ``pictures``, and with a dissection ``units``.

    Returns
    -------
    Verdict
        Agrees if the interval of the difference, over classes, lies above 0.
    """
    each = extra["pictures"]
    share, half = float(np.median(each["share"])), float(np.median(each["half"]))
    found = (
        f"On {len(each):,} picture{'' if len(each) == 1 else 's'} the {config.top} strongest units make {share:.0%} of "
        f"what speaks for the class that is named, and {half:.0f} units make half of it (medians)."
    )
    if "label" not in table.columns:
        found += " Without a dissection nothing says what these units detect."
        return Conclusion(question=QUESTION, paper=PAPER, finding=found, agreement="not compared")
    # Pictures of one class share their units: a class, not a picture, is what counts as independent.
    classes = each.group_by("class", maintain_order=True).agg(pl.col("detectors").mean())["detectors"]
    everywhere = float(extra["units"]["detector"].to_numpy().mean())
    interval = mean_interval((classes - everywhere).to_list()).within(-everywhere, 1 - everywhere)
    found += (
        f" Of these strongest units {classes.to_numpy().mean():.0%} are detectors, of all units {everywhere:.0%}: a "
        f"difference of {interval}, over the classes that are named."
    )
    return Conclusion(question=QUESTION, paper=PAPER, finding=found, agreement=decide(interval, "more"))


def attribution_synthetic(bench: Workspace) -> ExperimentResult:
    """Explain what the bench's scene network says of the world that is dissected."""
    trained = bench.trained()
    result = bench.dissected(trained)
    paths = [bench.data.image_path(row) for row in range(len(bench.data))]
    config = AttributionConfig(layer=trained.recipe.layers[-1], classes=SCENE_NAMES)
    return attribution(trained.network(), paths, config, result=result, progress=bench.progress)


def _check(head: LinearHead, pictures: Sequence[Path], config: AttributionConfig) -> None:
    if not pictures:
        raise ConfigError("There is no picture to explain. Expected at least one picture file.")
    if config.classes is not None and len(config.classes) != len(head.weight):
        raise ConfigError(
            f"{len(config.classes)} names are given for {len(head.weight)} classes. Expected a name for each output of "
            f"the linear layer {head.name!r}, in order."
        )


def _explain(
    network: Network, head: LinearHead, pictures: Sequence[Path], config: AttributionConfig, progress: Progress | None
) -> _Explained:
    parts: list[tuple[torch.Tensor, ...]] = []
    top = min(config.top, head.layer.units)
    with HeadRecorder(network, head) as record:
        for pixels in pixel_batches(pictures, network.preprocessing, config.batch_size):
            seen = record(network.preprocessing(torch.from_numpy(pixels)).to(network.device))
            scores, named = seen.scores.cpu().max(1)
            terms = head.weight.cpu()[named] * seen.pooled.cpu()
            strongest = terms.argsort(dim=1, descending=True, stable=True)[:, :top]
            maps = torch.stack([one[units] for one, units in zip(seen.maps.cpu(), strongest, strict=True)])
            parts.append((named, scores, terms, maps))
            if progress:
                progress("pictures", min(len(parts) * config.batch_size, len(pictures)), len(pictures))
    return _Explained(*(torch.cat(part).numpy() for part in zip(*parts, strict=True)))


def _labels(result: Result | None, layer: str) -> pl.DataFrame | None:
    if result is None:
        return None
    units = result.layer(layer).units.filter(quantile=result.info.config.protocol.quantiles[0])
    detects = passes(pl.col("iou").fill_null(0.0), "top-label", result.info.min_iou(layer)).alias("detector")
    return units.select("unit", "label", "category", "iou", "threshold", detects).with_columns(
        pl.col("unit").cast(pl.Int64)
    )


def _class_rows(explained: _Explained, config: AttributionConfig) -> Iterator[dict[str, object]]:
    for label in sorted(set(explained.named.tolist())):
        here = explained.named == label
        mean = explained.contributions[here].mean(axis=0)
        about: dict[str, object] = {
            "scope": "class", "image": None, "class": _name(label, config), "pictures": int(here.sum()),
            "score": float(explained.scores[here].mean()),
        }  # fmt: skip
        yield from _unit_rows(about, mean, config.top)


def _image_rows(explained: _Explained, names: Sequence[str], config: AttributionConfig) -> Iterator[dict[str, object]]:
    for place in _shown(len(names), config):
        about: dict[str, object] = {
            "scope": "image", "image": names[place], "class": _name(int(explained.named[place]), config), "pictures": 1,
            "score": float(explained.scores[place]),
        }  # fmt: skip
        yield from _unit_rows(about, explained.contributions[place], config.top)


def _unit_rows(about: dict[str, object], terms: Floats, top: int) -> Iterator[dict[str, object]]:
    positive = float(terms.clip(min=0).sum())
    for rank, unit in enumerate(np.argsort(-terms, kind="stable")[:top].tolist()):
        value = float(terms[unit])
        yield about | {"rank": rank, "unit": unit, "contribution": value, "share": max(value, 0.0) / (positive or 1.0)}


def _shown(count: int, config: AttributionConfig) -> list[int]:
    """Spread the pictures that are explained evenly over all."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(config.shown, count))})


def _picture_table(
    explained: _Explained, names: Sequence[str], config: AttributionConfig, labels: pl.DataFrame | None
) -> pl.DataFrame:
    positive = np.sort(explained.contributions.clip(min=0), axis=1)[:, ::-1].astype(np.float64)
    running = positive.cumsum(axis=1)
    total = np.maximum(running[:, -1:], np.finfo(np.float64).tiny)
    table = pl.DataFrame(
        {
            "image": names,
            "class": [_name(label, config) for label in explained.named.tolist()],
            "score": explained.scores,
            "share": (running / total)[:, min(config.top, running.shape[1]) - 1],
            "half": (running < total / 2).sum(axis=1) + 1,
        }
    )
    if labels is None:
        return table
    detects = labels.sort("unit")["detector"].to_numpy()
    return table.with_columns(detectors=detects[explained.strongest(config.top)].mean(axis=1))


def _map_table(
    explained: _Explained, names: Sequence[str], config: AttributionConfig, labels: pl.DataFrame | None
) -> pl.DataFrame:
    strongest, (height, width) = explained.strongest(config.top), explained.maps.shape[2:]
    thresholds = None if labels is None else labels.sort("unit")["threshold"].to_numpy()
    frames = []
    for place in _shown(len(names), config):
        for rank, (unit, values) in enumerate(zip(strongest[place].tolist(), explained.maps[place], strict=True)):
            # Without a dissection a mask is where the unit is above half of its maximum on the picture.
            level = float(values.max()) / 2 if thresholds is None else float(thresholds[unit])
            cells = pl.DataFrame(
                {
                    "y": np.repeat(np.arange(height), width),
                    "x": np.tile(np.arange(width), height),
                    "activation": values.ravel(),
                }
            )
            keys = {"image": names[place], "rank": rank, "unit": unit, "threshold": level}
            frames.append(cells.select(*(pl.lit(value).alias(key) for key, value in keys.items()), pl.all()))
    return pl.concat(frames)


def _name(label: int, config: AttributionConfig) -> str:
    return str(label) if config.classes is None else config.classes[label]
