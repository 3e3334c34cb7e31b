"""The cells on which strengths of units are trained: those that show a concept, and those in which inserting draws it.

Source: Bau et al. 2019 :cite:p:`bau2019gandissect`, section 3.2, and their program, which tries five cells a sample.
Cells that do not show the concept at all, and those in which inserting does not help, never take part.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from netdissect.concepts import Size
from netdissect.config import Progress
from netdissect.counted import counted
from netdissect.dissect.cost_plan import cells_of
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import ConfigError
from netdissect.experiments.interventions.areas import AreaMeter, Floats, Ints
from netdissect.models import Layer
from netdissect.models.surgery.layer_edits import addresses, mixed
from netdissect.progress import show_line

TRIED_CELLS = 5
"""Cells of a sample in which inserting is tried."""
FEWEST_CELLS = 2
Arrays = dict[str, npt.NDArray[Any]]


class Cells(NamedTuple):
    """A cell of each of some samples: samples int64 (N, 2), seed and index, and cells int64 (N, 2), row and column."""

    samples: Tensor
    cells: Ints

    def part(self, index: npt.NDArray[np.int64] | slice) -> "Cells":
        """Return some of them."""
        return Cells(self.samples[index], self.cells[index])


@dataclass(frozen=True)
class CellSearch:
    """Finds the cells on which strengths are trained.

    Attributes
    ----------
    meter, concept
        Of the layer, and the index of the label of its segmenter.
    seed
        Of the cells that are tried.
    count
        Most cells of each kind.
    progress
        Called with the samples searched.
    work
        Keeps what is found; None: an interrupted search begins anew.
    """

    meter: AreaMeter
    concept: int
    seed: int
    count: int
    progress: Progress | None
    work: WorkDir | None

    @property
    def grid(self) -> Size:
        """Size of the layer's map."""
        return cells_of(self.meter.layer)

    def present(self, samples: Tensor) -> tuple[Cells, Floats, Floats]:
        """Return cells that show the concept most, one a sample, the mean activation there, and how often each cell is.

        Returns
        -------
        cells, float64 (U,), float64 (h * w,)
        """
        units = self.meter.layer.units
        state: Arrays = {"best": np.zeros((len(samples), 2)), "sums": np.zeros(units), "weight": np.zeros(1)}

        def search(batch: slice) -> None:
            kept: list[Tensor] = []
            (output,) = self.meter.editor.outputs(samples[batch], [partial(_keep, layer=self.meter.layer, kept=kept)])
            shares = self._shares(output)
            most, where = shares.flatten(1).max(1)
            state["best"][batch] = np.stack([most.numpy(), where.numpy()], 1)
            maps = kept[0].double().cpu()
            state["sums"] += torch.einsum("buhw,bhw->u", maps, shares).numpy()
            state["weight"] += shares.sum().item()

        self._all("cells with the concept", "present", samples, state, search)
        found = self._best(samples, state["best"])
        if len(found.cells) < FEWEST_CELLS:
            raise ConfigError(
                f"{len(found.cells)} of {len(samples)} samples show the concept {self._name!r}, on which strengths of "
                "units are optimized. Expected a concept that the generator draws, or more --search-samples."
            )
        flat = found.cells[:, 0] * self.grid.width + found.cells[:, 1]
        popularity = np.bincount(flat, minlength=self.grid.height * self.grid.width).astype(np.float64)
        return found, state["sums"] / state["weight"], popularity

    def absent(self, samples: Tensor, values: Floats, popularity: Floats) -> Cells:
        """Return cells that do not show the concept, and in which inserting all units draws most of it.

        Parameters
        ----------
        samples : int64 (N, 2)
            In each of which five cells are tried.
        values : float64 (U,)
            What is inserted.
        popularity : float64 (h * w,)
            Cells are drawn in proportion to this and a tenth of its mean.
        """
        weights = popularity + popularity.mean() / 10
        tried = min(TRIED_CELLS, len(weights))
        state: Arrays = {"best": np.zeros((len(samples), 2))}
        everything = torch.ones(len(values))

        def search(batch: slice) -> None:
            draws = [np.random.default_rng([self.seed, *sample]) for sample in samples[batch].tolist()]
            flat = np.stack([rng.choice(len(weights), tried, False, weights / weights.sum()) for rng in draws], 1)
            edits = [
                partial(
                    mixed, layer=self.meter.layer, strengths=everything, values=torch.from_numpy(values),
                    cells=np.stack(np.divmod(cells, self.grid.width), 1),
                )
                for cells in flat
            ]  # fmt: skip
            plain, *inserted = map(self._mask, self.meter.editor.outputs(samples[batch], [torch.clone, *edits]))
            without = adaptive_avg_pool2d(plain[:, None], (self.grid.height, self.grid.width)).flatten(1).numpy()
            gains = np.stack([(mask - plain).sum((1, 2)).numpy() for mask in inserted])
            gains[np.take_along_axis(without, flat.T, 1).T > 0] = 0
            best = gains.argmax(0)
            each = np.arange(len(best))
            state["best"][batch] = np.stack([gains[best, each], flat[best, each]], 1)

        self._all("cells without it", "absent", samples, state, search)
        found = self._best(samples, state["best"])
        if len(found.cells) < FEWEST_CELLS:
            raise ConfigError(
                f"inserting the mean activation of {self.meter.layer.name!r} where {self._name!r} is draws it in "
                f"{len(found.cells)} of {len(samples)} samples that do not show it, each in one of {tried} cells. "
                "Expected a layer whose single cells draw the concept, or more --search-samples."
            )
        return found

    @property
    def _name(self) -> str:
        return self.meter.segmenter.labels[self.concept].concept

    def _all(self, stage: str, name: str, samples: Tensor, state: Arrays, search: Callable[[slice], None]) -> None:
        """Search all samples, batch after batch, from the last checkpoint on."""
        saved = self.work.load(name) if self.work else {}
        for key in state if saved else ():
            state[key][:] = saved[key]
        done = int(saved.get("batches", 0))

        def checkpoint() -> Arrays:
            return state | {"batches": np.array(done)}

        started = time.monotonic()
        for batch in list(replace(self.meter, samples=samples).batches())[done:]:
            search(batch)
            if batch.start == 0:
                seconds = (time.monotonic() - started) * len(samples) / batch.stop
                show_line(self.progress, f"{stage}: {counted(len(samples), 'samples')}, about {seconds:.0f} s")
            done += 1
            if self.work:
                self.work.save(name, checkpoint, now=batch.stop == len(samples))
            if self.progress:
                self.progress(stage, batch.stop, len(samples))

    def _best(self, samples: Tensor, best: Floats) -> Cells:
        """Return the cells of the highest scores, at most `count`, in the order of the samples."""
        order = np.argsort(-best[:, 0], kind="stable")[: self.count]
        chosen = np.sort(order[best[order, 0] > 0])
        return Cells(samples[chosen], np.stack(np.divmod(best[chosen, 1].astype(np.int64), self.grid.width), 1))

    def _shares(self, output: object) -> Tensor:
        """Return which part of each cell shows the concept, float64 (B, h, w)."""
        return adaptive_avg_pool2d(self._mask(output)[:, None], (self.grid.height, self.grid.width))[:, 0]

    def _mask(self, output: object) -> Tensor:
        """Return float64 (B, H, W): 1 where a pixel shows the concept."""
        return torch.from_numpy((self.meter.label_maps(output) == self.concept + 1).any(axis=1)).double()


def _keep(output: Tensor, layer: Layer, kept: list[Tensor]) -> Tensor:
    kept.append(output.flatten()[addresses(output, layer)])
    return output.clone()
