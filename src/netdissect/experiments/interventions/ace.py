"""Strengths of units that remove a concept where it is and draw it where it is not (ACE).

    samples -> cells that show the concept, and the mean activation k there
    other samples -> cells that do not show it and in which inserting k helps
    both -> strengths in [0, 1] of all units by gradient descent -> the strongest units

With s(x, c) the segmenter's score of the concept, averaged over the cell c of the layer, and a the strengths,

    minimize  E[ s(x with (1 - a) h in c, c) ] - E[ s(x with (1 - a) h + a k in c, c) ] + penalty |a|^2

where h is the activation of the layer: the first mean is over cells that show the concept, the second over those that
do not.

Source: Bau et al. 2019 :cite:p:`bau2019gandissect`, section 3.2, and their program, whose settings are the defaults. In
that program the second score is read at the cell of the first mean's sample, where nothing was inserted. The paper
defines it at the cell of the insertion, and so it is here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from netdissect.config import Progress
from netdissect.dissect.cost_plan import cells_of
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import SegmenterError
from netdissect.experiments.interventions.ace_cells import Arrays, Cells, CellSearch
from netdissect.experiments.interventions.areas import AreaMeter, Floats
from netdissect.experiments.interventions.intervene_config import AceConfig
from netdissect.models.surgery.layer_edits import mixed

UPDATE = 20
"""Cells of either kind between two steps of the optimizer."""


class Strengths(NamedTuple):
    """The result of an optimization.

    Attributes
    ----------
    strengths : float64 (U,)
        Of each unit, from 0 to 1.
    epochs
        epoch, loss (mean over training cells), heldout_loss, penalty; epoch 0 is before training.
    cells
        Cells that show the concept, and as many in which it was inserted; those held out included.
    """

    strengths: Floats
    epochs: pl.DataFrame
    cells: int


def optimize_strengths(
    meter: AreaMeter,
    concept: int,
    start: Floats,
    config: AceConfig,
    seed: int,
    progress: Progress | None = None,
    work: WorkDir | None = None,
) -> Strengths:
    """Optimize the strengths of the units of a layer.

    Parameters
    ----------
    meter
        Of the layer; its samples say the seed from which those of the search follow.
    concept
        Index of the label of the segmenter.
    start : float64 (U,)
        IoU of each unit with the concept; divided by the largest, the first strengths. All may be 0.
    config
        Settings.
    seed
        Of cells that are tried, and of the order of cells.
    progress
        Called with the samples searched and the epochs done.
    work
        Keeps what is done; None: an interrupted call begins anew.

    Raises
    ------
    SegmenterError
        If the segmenter has no differentiable scores.
    ConfigError
        If too few samples show the concept, or inserting helps nowhere.
    """
    scores, first = differentiable_scores(meter), int(meter.samples[0, 0])
    numbers = torch.arange(config.search_samples)
    pools = [torch.stack([torch.full_like(numbers, first + more), numbers], 1) for more in (1, 2)]
    search = CellSearch(meter, concept, seed, config.train_cells + config.heldout_cells, progress, work)
    present, values, popularity = search.present(pools[0])
    absent = search.absent(pools[1], values, popularity)
    count = min(len(present.cells), len(absent.cells))
    present, absent = present.part(slice(count)), absent.part(slice(count))
    training = Training(meter, concept, scores, torch.from_numpy(values), config, seed)
    strengths, epochs = training.run(start / (start.max() or 1.0), present, absent, progress, work)
    return Strengths(strengths, epochs, count)


@dataclass(frozen=True)
class Training:
    """Gradient descent on the strengths of units.

    Attributes
    ----------
    meter, concept
        Of the layer, and the index of the label of its segmenter.
    scores
        The segmenter's scores of labels, differentiable.
    values : float64 (U,)
        What a unit of strength 1 is set to where it is inserted.
    config, seed
        Settings, and the seed of the order of cells.
    """

    meter: AreaMeter
    concept: int
    scores: nn.Module
    values: Tensor
    config: AceConfig
    seed: int

    def run(
        self, start: Floats, present: Cells, absent: Cells, progress: Progress | None, work: WorkDir | None
    ) -> tuple[Floats, pl.DataFrame]:
        """Train from the first strengths, float64 (U,); the last cells of each kind are held out."""
        config, count = self.config, len(present.cells)
        trained = max(1, count * config.train_cells // (config.train_cells + config.heldout_cells))
        heldout = slice(trained, None)
        strengths = torch.from_numpy(start).float().requires_grad_()
        optimizer = torch.optim.Adam([strengths], lr=config.learning_rate)
        saved = work.load("epochs") if work else {}
        losses = saved["losses"].tolist() if saved else []
        if saved:
            _restore(strengths, optimizer, saved)
        for epoch in range(len(losses), config.epochs + 1):
            loss = np.nan if epoch == 0 else self._epoch(strengths, optimizer, epoch, (present, absent), trained)
            with torch.no_grad():
                held = self._mean_loss(strengths, present.part(heldout), absent.part(heldout))
                losses.append([loss, held, config.penalty * float(strengths.square().sum())])
            if work:
                work.save("epochs", lambda: _state(strengths, optimizer, losses), now=True)
            if progress:
                progress("epochs", epoch, config.epochs)
        columns = dict(zip(("loss", "heldout_loss", "penalty"), np.array(losses).T, strict=True))
        frame = pl.DataFrame({"epoch": range(len(losses))} | columns).with_columns(pl.col(pl.Float64).fill_nan(None))
        return strengths.detach().double().numpy(), frame

    def _epoch(
        self, strengths: Tensor, optimizer: torch.optim.Optimizer, epoch: int, cells: tuple[Cells, Cells], count: int
    ) -> float:
        """Go through the training cells once, and return their mean loss."""
        rng, total = np.random.default_rng([self.seed, epoch]), 0.0
        orders = [rng.permutation(count) for _ in cells]
        for begin in range(0, count, UPDATE):
            present, absent = (
                each.part(order[begin : begin + UPDATE]) for each, order in zip(cells, orders, strict=True)
            )
            gradient = 2 * self.config.penalty * len(present.cells) * strengths.detach()
            for part in self._batches(len(present.cells)):
                loss = self.loss(strengths, present.part(part), absent.part(part))
                gradient += torch.autograd.grad(loss, strengths)[0]
                total += loss.item()
            strengths.grad = gradient
            optimizer.step()
            with torch.no_grad():
                strengths.clamp_(0, 1)
        return total / count

    def loss(self, strengths: Tensor, present: Cells, absent: Cells) -> Tensor:
        """Return the sum over cells: score where the units are ablated, less score where they are inserted."""
        ablated = self._scores(present, strengths, torch.zeros_like(self.values))
        return ablated.sum() - self._scores(absent, strengths, self.values).sum()

    def _mean_loss(self, strengths: Tensor, present: Cells, absent: Cells) -> float:
        count = len(present.cells)
        parts = [self.loss(strengths, present.part(part), absent.part(part)).item() for part in self._batches(count)]
        return sum(parts) / count if count else np.nan

    def _batches(self, count: int) -> Iterator[slice]:
        for start in range(0, count, self.meter.batch_size):
            yield slice(start, start + self.meter.batch_size)

    def _scores(self, cells: Cells, strengths: Tensor, values: Tensor) -> Tensor:
        """Return the score of the concept in each cell, float32 (B,), where the units there are mixed with values."""
        layer, grid = self.meter.layer, cells_of(self.meter.layer)
        edit = partial(mixed, layer=layer, strengths=strengths, values=values, cells=cells.cells)
        output = self.meter.editor.differentiable(cells.samples, edit)
        pixels = self.meter.generator.levels(output)
        scores: Tensor = self.scores(pixels.expand(-1, 3, -1, -1))
        labels = len(self.meter.segmenter.labels)
        if scores.ndim != 4 or scores.shape[:2] != (len(pixels), labels):
            raise SegmenterError(
                f"the module of the segmenter {self.meter.segmenter.spec!r} returned scores {tuple(scores.shape)}. "
                f"Expected ({len(pixels)}, {labels}, height, width): one for each label."
            )
        in_cells = adaptive_avg_pool2d(scores[:, self.concept : self.concept + 1], (grid.height, grid.width))[:, 0]
        rows, columns = torch.from_numpy(cells.cells).to(scores.device).T
        return in_cells[torch.arange(len(pixels), device=scores.device), rows, columns].cpu()


def differentiable_scores(meter: AreaMeter) -> nn.Module:
    """Return the segmenter's scores as a module, on the device of the generator.

    Raises
    ------
    SegmenterError
        If it has none.
    """
    segmenter = meter.segmenter
    if not isinstance(segmenter.module, nn.Module):
        raise SegmenterError(
            f"the segmenter {segmenter.spec!r} gives label maps, through which no gradient goes, so strengths of units "
            "cannot be optimized (--units ace:N). Expected one with scores in PyTorch: transformers:, torchvision:, a "
            "trained .safetensors file, or a factory whose object has a module. --units top:N needs no gradient."
        )
    return segmenter.module.to(meter.generator.device)


def _state(strengths: Tensor, optimizer: torch.optim.Optimizer, losses: list[list[float]]) -> Arrays:
    arrays = {"batches": np.array(len(losses)), "losses": np.array(losses), "strengths": strengths.detach().numpy()}
    moments = optimizer.state.get(strengths, {})
    return arrays | {f"adam.{name}": np.asarray(value) for name, value in moments.items()}


def _restore(strengths: Tensor, optimizer: torch.optim.Optimizer, saved: Mapping[str, npt.NDArray[Any]]) -> None:
    with torch.no_grad():
        strengths.copy_(torch.from_numpy(saved["strengths"]))
    moments = {name.removeprefix("adam."): torch.from_numpy(np.array(saved[name])) for name in saved if "adam." in name}
    if moments:
        optimizer.state[strengths] = moments
