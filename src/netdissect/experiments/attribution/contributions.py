"""Contributions of units to the scores of a classifier, and their tables.

contributions(network, head, images, config) -> Contributions -> class_rows, image_rows, image_table, map_table
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from netdissect.config import Progress
from netdissect.models import Network
from netdissect.models.surgery.linear_head import HeadRecorder, LinearHead
from netdissect.training.classification_data import pixel_batches

if TYPE_CHECKING:
    from netdissect.experiments.attribution.experiment import AttributionConfig

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contributions:
    """The predicted class of every image, and the units that contribute to its score.

    Attributes
    ----------
    predicted
        int64 (N,): class with the highest score.
    scores
        float32 (N,): that score.
    contributions
        float32 (N, U): to that score.
    maps
        float32 (N, top, h, w): of the strongest units, the strongest first.
    """

    predicted: Ints
    scores: Floats
    contributions: Floats
    maps: Floats

    def strongest(self, top: int) -> Ints:
        """Units by falling contribution, int64 (N, top)."""
        return np.argsort(-self.contributions, axis=1, kind="stable")[:, :top]


def contributions(
    network: Network, head: LinearHead, images: Sequence[Path], config: "AttributionConfig", progress: Progress | None
) -> Contributions:
    """Run the network on every image and keep the contributions and maps of the strongest units."""
    parts: list[tuple[torch.Tensor, ...]] = []
    top = min(config.top, head.layer.units)
    with HeadRecorder(network, head) as record:
        for pixels in pixel_batches(images, network.preprocessing, config.batch_size):
            output = record(network.preprocessing(torch.from_numpy(pixels)).to(network.device))
            scores, predicted = output.scores.cpu().max(1)
            terms = head.weight.cpu()[predicted] * output.pooled.cpu()
            strongest = terms.argsort(dim=1, descending=True, stable=True)[:, :top]
            maps = torch.stack([one[units] for one, units in zip(output.maps.cpu(), strongest, strict=True)])
            parts.append((predicted, scores, terms, maps))
            if progress:
                progress("images", min(len(parts) * config.batch_size, len(images)), len(images))
    return Contributions(*(torch.cat(part).numpy() for part in zip(*parts, strict=True)))


def class_rows(values: Contributions, config: "AttributionConfig") -> Iterator[dict[str, object]]:
    """Yield the strongest units of every predicted class, by their mean contribution."""
    for label in sorted(set(values.predicted.tolist())):
        here = values.predicted == label
        mean = values.contributions[here].mean(axis=0)
        about: dict[str, object] = {
            "level": "class", "image": None, "class": _name(label, config), "images": int(here.sum()),
            "score": float(values.scores[here].mean()),
        }  # fmt: skip
        yield from _unit_rows(about, mean, config.top)


def image_rows(values: Contributions, names: Sequence[str], config: "AttributionConfig") -> Iterator[dict[str, object]]:
    """Yield the strongest units of the images that are explained one by one."""
    for index in _shown(len(names), config):
        about: dict[str, object] = {
            "level": "image", "image": names[index], "class": _name(int(values.predicted[index]), config), "images": 1,
            "score": float(values.scores[index]),
        }  # fmt: skip
        yield from _unit_rows(about, values.contributions[index], config.top)


def _unit_rows(about: dict[str, object], terms: Floats, top: int) -> Iterator[dict[str, object]]:
    positive = float(terms.clip(min=0).sum())
    for rank, unit in enumerate(np.argsort(-terms, kind="stable")[:top].tolist()):
        value = float(terms[unit])
        yield about | {"rank": rank, "unit": unit, "contribution": value, "share": max(value, 0.0) / (positive or 1.0)}


def _shown(count: int, config: "AttributionConfig") -> list[int]:
    """Spread the images that are explained evenly over all."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(config.shown, count))})


def image_table(
    values: Contributions, names: Sequence[str], config: "AttributionConfig", labels: pl.DataFrame | None
) -> pl.DataFrame:
    """Return how concentrated the contributions to each decision are."""
    positive = np.sort(values.contributions.clip(min=0), axis=1)[:, ::-1].astype(np.float64)
    running = positive.cumsum(axis=1)
    total = np.maximum(running[:, -1:], np.finfo(np.float64).tiny)
    table = pl.DataFrame(
        {
            "image": names,
            "class": [_name(label, config) for label in values.predicted.tolist()],
            "score": values.scores,
            "share": (running / total)[:, min(config.top, running.shape[1]) - 1],
            "units_for_half": (running < total / 2).sum(axis=1) + 1,
        }
    )
    if labels is None:
        return table
    detects = labels.sort("unit")["detector"].to_numpy()
    return table.with_columns(detector_share=detects[values.strongest(config.top)].mean(axis=1))


def map_table(
    values: Contributions, names: Sequence[str], config: "AttributionConfig", labels: pl.DataFrame | None
) -> pl.DataFrame:
    """Return the maps of the strongest units, for the figure."""
    strongest, (height, width) = values.strongest(config.top), values.maps.shape[2:]
    thresholds = None if labels is None else labels.sort("unit")["threshold"].to_numpy()
    frames = []
    for index in _shown(len(names), config):
        for rank, (unit, activations) in enumerate(zip(strongest[index].tolist(), values.maps[index], strict=True)):
            # Without a dissection a mask is where the unit is above half of its maximum on the image.
            level = float(activations.max()) / 2 if thresholds is None else float(thresholds[unit])
            cells = pl.DataFrame(
                {
                    "y": np.repeat(np.arange(height), width),
                    "x": np.tile(np.arange(width), height),
                    "activation": activations.ravel(),
                }
            )
            keys = {"image": names[index], "rank": rank, "unit": unit, "threshold": level}
            frames.append(cells.select(*(pl.lit(value).alias(key) for key, value in keys.items()), pl.all()))
    return pl.concat(frames)


def _name(label: int, config: "AttributionConfig") -> str:
    return str(label) if config.classes is None else config.classes[label]
