"""Rotate a layer, to ask whether single units are special or any directions would do.

    random_rotation -> rotation_power(Q, alpha) -> bases of a network -> one dissection -> rotate's Outcome

A rotation mixes units without losing anything that the layer as a whole can tell. If single units are no
more than arbitrary directions, it makes no difference to the number of detectors.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.2.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.linalg
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from netdissect.cli_options import Option
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, OneOrMore, Progress, Rule
from netdissect.dissect import dissect
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError, ShapeError
from netdissect.experiments.counts import (
    OVER_IMAGES,
    TOTAL,
    count_rows,
    difference_over_images,
    interval_over_images,
    largest_unique,
    over_images_table,
)
from netdissect.experiments.effect_sizes import Interval, decide, mean_interval
from netdissect.experiments.outcome import Conclusion, ConclusionOutcome, ExperimentResult
from netdissect.experiments.rotate.bases import BasisKind, CellSample, learned_bases, read_basis
from netdissect.models import Network, resolve_layers
from netdissect.result import Result
from netdissect.training.workspace import Workspace

Matrix = npt.NDArray[np.float64]

ORIGINAL = "original"
ROTATION = "rotation"
# An orthogonal matrix from float32 numbers: how far Q Q' may be from the identity.
ORTHOGONAL = 1e-4
QUESTION = "Do single units mean more than other directions of the same representation?"
PAPER = (
    "Unique detectors of AlexNet's conv5 fall monotonically as the units are rotated further, by 80 % at a whole "
    "random rotation: interpretability is not rotation-invariant."
)


class RotateConfig(BaseModel):
    """Which bases of one layer are dissected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dissect: DissectConfig = Field(description="The dissection; it has one layer.")
    seeds: Annotated[tuple[int, ...], Option("--rotation-seeds", metavar="SEED,...")] = Field(
        (0, 1, 2, 3, 4), description="Seeds of random rotations."
    )
    steps: int = Field(5, ge=1, description="Steps from alpha 0, the units, to 1, the whole rotation.")
    bases: Annotated[tuple[BasisKind, ...], OneOrMore, Option("--basis")] = Field(
        (), description="Further bases of the layer."
    )
    matrices: Annotated[tuple[Path, ...], OneOrMore, Option("--matrix", metavar="FILE")] = Field(
        (), description="Further bases: .npy or .safetensors, a row for each new unit; repeats."
    )
    sample: Annotated[CellSample, Option(hidden=True)] = Field(
        default_factory=CellSample, description="What principal components are found on."
    )
    rule: Rule = Field("per-category", description="Which published rule the figure and the verdict count by.")

    @property
    def alphas(self) -> tuple[float, ...]:
        """Fractions of a rotation above 0."""
        return tuple(step / self.steps for step in range(1, self.steps + 1))


def random_rotation(units: int, seed: int) -> Tensor:
    """Draw a rotation uniformly from SO(units).

    Parameters
    ----------
    units
        Dimension U.
    seed
        The same seed draws the same rotation.

    Returns
    -------
    float32 (U, U)
        Orthogonal, with determinant 1.

    Notes
    -----
    The orthogonal factor of a Gaussian matrix, with the signs of the triangular factor's diagonal moved into it, is
    uniform over the orthogonal group :cite:p:`mezzadri2007generate`; negating a row where the determinant is -1
    leaves SO(U).

    Examples
    --------
    >>> q = random_rotation(5, seed=0).double()
    >>> torch.allclose(q @ q.T, torch.eye(5).double(), atol=1e-6)
    True
    """
    return torch.from_numpy(_rotation(units, seed).astype(np.float32))


def _rotation(units: int, seed: int) -> Matrix:
    gaussian = np.random.default_rng(seed).standard_normal((units, units))
    q, r = np.linalg.qr(gaussian)
    q *= np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[0] *= -1
    return np.asarray(q)


def rotation_powers(rotation: Matrix, alphas: Iterable[float]) -> list[Matrix]:
    """Return fractional powers of a rotation: every plane that it turns is turned by a fraction of its angle.

    Parameters
    ----------
    rotation : float64 (U, U)
        Orthogonal, with determinant 1.
    alphas
        Exponents: 0 gives the identity, 1 the rotation.

    Returns
    -------
    list of float64 (U, U)
        One for each exponent; each is a rotation, and ``Q^a Q^b = Q^(a + b)``.

    Raises
    ------
    ShapeError
        If the matrix is no rotation.

    Notes
    -----
    The real Schur form of an orthogonal matrix is ``Q = Z T Z'``, T holding turns of planes, each with its angle in
    (-pi, pi), and 1 or -1 on the diagonal. Eigenvalues -1 come in pairs where the determinant is 1: a pair is a
    plane turned by pi. Which two make a plane is a choice, as is the sense of a half turn; the powers depend on it.
    Turns keep their signs, so that nearby planes move as Q moves them and Q is reached at 1 without a jump.
    """
    _check_rotation(rotation)
    triangular, basis = scipy.linalg.schur(rotation, output="real")
    planes = _planes(triangular)
    powers = []
    for alpha in alphas:
        turned = np.eye(len(rotation))
        for first, second, angle in planes:
            cosine, sine = np.cos(alpha * angle), np.sin(alpha * angle)
            turned[np.ix_([first, second], [first, second])] = [[cosine, -sine], [sine, cosine]]
        powers.append(basis @ turned @ basis.T)
    return powers


def _check_rotation(matrix: Matrix) -> None:
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not square or not np.allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=ORTHOGONAL):
        raise ShapeError(
            f"A matrix {matrix.shape} is no rotation: its rows are not orthonormal. Expected a square orthogonal "
            "matrix of determinant 1; take the factor q of numpy.linalg.qr."
        )
    if np.linalg.det(matrix) < 0:
        raise ShapeError(
            "The orthogonal matrix has determinant -1: it is a reflection and has no fractional powers. Expected a "
            "rotation; negate one of its rows."
        )


def _planes(triangular: Matrix) -> list[tuple[int, int, float]]:
    """List the planes of a real Schur form with their angles; what stays where it is has none."""
    planes: list[tuple[int, int, float]] = []
    halves: list[int] = []
    place = 0
    while place < len(triangular):
        if place + 1 < len(triangular) and triangular[place + 1, place] != 0:
            angle = np.arctan2(triangular[place + 1, place], triangular[place, place])
            planes.append((place, place + 1, float(angle)))
            place += 2
        else:
            if triangular[place, place] < 0:
                halves.append(place)
            place += 1
    planes += [(first, second, np.pi) for first, second in zip(halves[::2], halves[1::2], strict=True)]
    return planes


def with_rotations(network: Network, layer: str, seeds: Iterable[int], alphas: Iterable[float] = (1.0,)) -> Network:
    """Return the network with randomly rotated copies of one layer, recorded in the same forward pass.

    Parameters
    ----------
    network
        The network.
    layer
        Name of a layer.
    seeds
        One rotation for each; the copies are called as `rotated_name` says.
    alphas
        Fractions of each rotation.

    Raises
    ------
    LayerError
        If the network has no such layer.
    """
    units, fractions = resolve_layers(network, [layer])[0].units, list(alphas)
    bases = dict(network.bases)
    for seed in seeds:
        for alpha, matrix in zip(fractions, rotation_powers(_rotation(units, seed), fractions), strict=True):
            # At 1 the rotation itself, and not what comes back from its Schur form.
            turned = random_rotation(units, seed) if alpha == 1 else torch.from_numpy(matrix.astype(np.float32))
            bases[rotated_name(layer, seed, alpha)] = (layer, turned)
    return replace(network, bases=bases)


def rotated_name(layer: str, seed: int, alpha: float = 1.0) -> str:
    """Return what the rotated copy of a layer is called: ``conv5@rotation-0``, ``conv5@rotation-0^0.2``."""
    return f"{layer}@rotation-{seed}" + ("" if alpha == 1 else f"^{alpha:g}")


def rotate(
    network: Network,
    concepts: ConceptData | str | Path,
    config: RotateConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Dissect one layer in rotated and other bases, and say what its own units have before them.

    One forward pass serves all bases. Rotated activations are dense, and of every basis those that can matter
    are kept until the end of the run, about a third: the run says how many bytes before it starts, and where
    the disk lacks room it keeps none and runs the network twice.

    Parameters
    ----------
    network
        Any.
    concepts
        A data set in Broden's layout, or its folder.
    config
        The layer, and which bases.
    out
        The run is kept in ``OUT/runs/rotate``.
    progress
        Told of every stage.

    Returns
    -------
    Outcome
        Its table: basis (``original``, ``rotation``, ``pca``, ``ica``, ``permutation`` or a file's name), seed and
        alpha (null but for rotations), layer, quantile, rule, category, units, detectors, unique. Beside it
        ``over_images``: the change from ``original`` to ``rotation`` by the bootstrap over images; empty without one.

    Raises
    ------
    ConfigError
        If `config` has not one layer.
    """
    data, measured = sample_images(concepts, config.dissect)
    config = config.model_copy(update={"dissect": measured})
    seconds: dict[str, float] = {}
    found = resolve_layers(network, config.dissect.layers, config.dissect.assumed)
    if len(found) != 1:
        names = ", ".join(layer.name for layer in found)
        raise ConfigError(f"rotate takes one layer; {names} are {len(found)}. Name a single one.")
    layer = found[0].name
    with timed("find bases", seconds):
        rotated = with_rotations(network, layer, config.seeds, config.alphas)
        others = learned_bases(network, data, layer, config.bases, config.sample, config.dissect)
        others |= {path.stem: read_basis(path, found[0].units) for path in config.matrices}
        bases = {**rotated.bases, **{f"{layer}@{name}": (layer, matrix) for name, matrix in others.items()}}
    wanted = [layer, *(name for name in bases if name not in network.bases)]
    with timed("dissect", seconds):
        result = dissect(
            replace(network, bases=bases),
            data,
            config.dissect,
            layers=wanted,
            out=Path(out) / "runs" / "rotate",
            progress=progress,
        )
    table = _table(result, layer, config, list(others))
    asked = config.model_dump(mode="json") | {
        "network": result.info.network.model_dump(mode="json"),
        "concepts": result.info.data.root,
        "layer": layer,
        "quantile": config.dissect.protocol.quantiles[0],
    }
    further = {OVER_IMAGES: _over_images(result, layer, config)}
    return ExperimentResult("rotate", table, conclude(table, config, extra=further), asked, seconds, further)


def rotate_synthetic(bench: Workspace) -> ExperimentResult:
    """Run the experiment on the last convolution of the bench's network, with all other bases."""
    trained = bench.trained_longer()
    config = RotateConfig(
        dissect=bench.measured(trained.recipe.layers[-1:]),
        seeds=tuple(range(bench.scale.rotations)),
        steps=bench.scale.steps,
        bases=("pca", "ica", "permutation"),
    )
    return rotate(trained.network(), bench.data, config, out=bench.folder("rotate"), progress=bench.progress)


def _table(result: Result, layer: str, config: RotateConfig, others: list[str]) -> pl.DataFrame:
    """Count each basis."""
    parts: list[tuple[str, str, int | None, float | None]] = [(layer, ORIGINAL, None, 0.0)]
    parts += [
        (rotated_name(layer, seed, alpha), ROTATION, seed, alpha) for seed in config.seeds for alpha in config.alphas
    ]
    parts += [(f"{layer}@{name}", name, None, None) for name in others]
    types = pl.Schema({"basis": pl.String, "seed": pl.Int64, "alpha": pl.Float64})
    return pl.concat(
        count_rows(result, [name], basis=basis, seed=seed, alpha=alpha).cast(types)
        for name, basis, seed, alpha in parts
    )


def _over_images(result: Result, layer: str, config: RotateConfig) -> pl.DataFrame:
    """Measure the change by a whole rotation over replicates of the images."""
    pairs, quantile = (
        [(layer, rotated_name(layer, seed)) for seed in config.seeds],
        config.dissect.protocol.quantiles[0],
    )
    change = difference_over_images(result, result, pairs, quantile=quantile, rule=config.rule) if pairs else None
    return over_images_table({(ORIGINAL, ROTATION): change})


def conclude(table: pl.DataFrame, config: RotateConfig, *, extra: Mapping[str, pl.DataFrame] = {}) -> Conclusion:
    """Say whether whole rotations cost unique detectors.

    Parameters
    ----------
    table
        Of `rotate`.
    config
        Of the experiment.
    extra
        Tables beside it; without ``over_images`` the rotations alone decide.
    """
    counts = table.filter(quantile=config.dissect.protocol.quantiles[0], rule=config.rule)
    rows = counts.filter(category=TOTAL)
    layer, before = rows.filter(basis=ORIGINAL).select("layer", "unique_detectors").row(0)
    others = rows.filter(~pl.col("basis").is_in([ORIGINAL, ROTATION]))
    beside = ", ".join(f"{row['basis']} {row['unique_detectors']}" for row in others.iter_rows(named=True))
    beside = f" Other bases: {beside}." if beside else ""
    turned = rows.filter(basis=ROTATION, alpha=1.0)["unique_detectors"].to_list()
    if not turned or not before:
        finding = f"{layer} has {before} unique detectors; there is nothing that rotations could cost.{beside}"
        return Conclusion(question=QUESTION, paper=PAPER, finding=finding, agreement="not established")
    most = largest_unique(counts)
    change = mean_interval([after - before for after in turned]).within(-before, most - before)
    images = interval_over_images(extra, ORIGINAL, ROTATION)
    each = [rows.filter(basis=ROTATION, alpha=alpha)["unique_detectors"].to_list() for alpha in config.alphas]
    means = [float(before), *(sum(values) / len(values) for values in each)]
    course = ", ".join(f"{value:.3g}" for value in means)
    falls = all(after < former for former, after in pairwise(means))
    finding = (
        f"{layer} has {before} unique detectors, and {means[-1]:.3g} after a whole random rotation: a change by "
        f"{change.mean / before:+.0%}, that is {change} concepts over rotations"
        + (f", {images.low:.3g} to {images.high:.3g} by the bootstrap over images" if images else "")
        + f". Means from alpha 0 to 1: {course}; they {'fall' if falls else 'do not fall'} at every step.{beside}"
    )
    return Conclusion(question=QUESTION, paper=PAPER, finding=finding, agreement=_agreement(change, images))


def _agreement(change: Interval, images: Interval | None) -> ConclusionOutcome:
    """Both kinds of chance have to be ruled out: which rotations were drawn, and which images."""
    found = decide(change, "fewer")
    return found if images is None or decide(images, "fewer") == found else "not established"
