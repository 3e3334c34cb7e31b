"""CoSy: the activations of units on images made for their labels, against those on the images of the run.

    ImageFolders.of(root) -> folder of each label -> mean activations -> AUROC, MAD, Mann-Whitney U and its p-value

Any images do: drawn by a diffusion model, or photographs of what the label says. The network sees the whole image,
stretched to its input, as it saw those of the run.

Source: Kopf et al. 2024 :cite:p:`kopf2024cosy`, sections 3.2 and 3.3.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy

from netdissect.activations.image_batches import read_image
from netdissect.dissect.image_maps import image_maps, run_layers
from netdissect.errors import ConceptsError
from netdissect.evaluation.concept_matching import folded
from netdissect.evaluation.scores import AnyFloats, auroc
from netdissect.models import Network
from netdissect.progress import Display
from netdissect.result import Result

Floats = npt.NDArray[np.float64]

SUFFIXES_OF_IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
STAGE = "images of labels"
_BATCH = 16


@dataclass(frozen=True)
class ImageFolders:
    """Folders of images, by label.

    Attributes
    ----------
    root
        Folder that holds them.
    by_name
        Images of each folder, by its name.
    by_spelling
        Names of folders by their folded spelling.
    """

    root: Path
    by_name: Mapping[str, tuple[Path, ...]]
    by_spelling: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, root: Path) -> "ImageFolders":
        """List the folders below `root`.

        Raises
        ------
        ConceptsError
            If it is no folder or holds none.
        """
        try:
            folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
            images = {
                folder.name: tuple(
                    sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES_OF_IMAGES)
                )
                for folder in folders
            }
        except OSError as error:
            raise ConceptsError(f"{root} cannot be read ({error}). {_EXPECTED}") from error
        if not images:
            raise ConceptsError(f"{root} holds no folder. {_EXPECTED}")
        spelled = defaultdict(list)
        for name in images:
            spelled[folded(name)].append(name)
        return cls(root, images, {key: tuple(names) for key, names in spelled.items()})

    def folder_of(self, label: str) -> str | None:
        """Return the name of the folder of a label; None if there is none, or several in its spelling.

        Raises
        ------
        ConceptsError
            If the folder holds no image.
        """
        similar = self.by_spelling.get(folded(label), ())
        name = label if label in self.by_name else similar[0] if len(similar) == 1 else None
        if name is not None and not self.by_name[name]:
            raise ConceptsError(
                f"{self.root / name} holds no image of the label {label!r}. Expected files that end in "
                f"{', '.join(SUFFIXES_OF_IMAGES)}; remove the folder if the label has none."
            )
        return name


_EXPECTED = "Expected a folder with a folder of images for each label, named by the label, such as 'traffic light'."


def folder_means(
    result: Result, network: Network, images: Sequence[Path], layers: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """Run the network of a run on images and return the mean activation of each unit, float32 (n, U), by layer.

    Raises
    ------
    ConceptsError
        If an image cannot be read.
    """
    chosen = [layer for layer in run_layers(network, result.info) if layer.name in layers]
    found: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in layers}
    for start in range(0, len(images), _BATCH):
        decoded = [read_image(path, network.preprocessing) for path in images[start : start + _BATCH]]
        pixels = np.ascontiguousarray(np.stack(decoded).transpose(0, 3, 1, 2))
        for name, maps in image_maps(network, chosen, pixels, result.info.config).items():
            found[name].append(maps.mean(axis=(2, 3), dtype=np.float64).astype(np.float32))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def compared_activations(images: AnyFloats, control: AnyFloats) -> dict[str, Floats]:
    """Compare the activations of units on images of their label with those on other images.

    Parameters
    ----------
    images
        float (n, U): on the images of the label.
    control
        float (N, U): on the images of the run.

    Returns
    -------
    dict of float64 (U,)
        ``auroc``: probability that an image of the label has the larger activation. ``mad``: difference of the means,
        in standard deviations of `control` (0 if that is constant). ``u`` and ``p``: Mann-Whitney U of `control` and
        its two-sided p-value.
    """
    label = np.repeat([1.0, 0.0], [len(images), len(control)])[:, None]
    area = auroc(np.concatenate([images, control]), np.broadcast_to(label, (len(label), images.shape[1])))
    wide = control.astype(np.float64)
    deviation = wide.std(axis=0, ddof=1) if len(wide) > 1 else np.zeros(wide.shape[1])
    difference = images.mean(axis=0, dtype=np.float64) - wide.mean(axis=0)
    test = scipy.stats.mannwhitneyu(wide, images.astype(np.float64), axis=0)
    mad = np.divide(difference, deviation, out=np.zeros_like(difference), where=np.ptp(wide, axis=0) > 0)
    return {"auroc": area, "mad": mad, "u": np.asarray(test.statistic), "p": np.asarray(test.pvalue)}


@dataclass(frozen=True, eq=False)
class CosyScores:
    """CoSy of one evaluation.

    Attributes
    ----------
    result
        The run.
    network
        Its network.
    folders
        Images of labels.
    control
        Mean activations on the images of the run, float (N, U), by layer.
    """

    result: Result
    network: Network
    folders: ImageFolders
    control: Mapping[str, AnyFloats]

    def of(self, units: pl.DataFrame, display: Display) -> pl.DataFrame:
        """Return ``with_images`` and the columns ``cosy_...`` of a table of labels: see `Evaluation.units`.

        Raises
        ------
        ConceptsError
            If no label has a folder, or an image cannot be read.
        """
        folder_of = {label: self.folders.folder_of(label) for label in units["label"].unique(maintain_order=True)}
        if not any(folder_of.values()):
            raise ConceptsError(
                f"no label has a folder in {self.folders.root}, which holds "
                f"{', '.join(list(self.folders.by_name)[:3])}; the first label is {units['label'][0]!r}. {_EXPECTED}"
            )
        folder = units["label"].replace_strict(folder_of, return_dtype=pl.String)
        columns = {name: np.full(len(units), np.nan) for name in ("auroc", "mad", "u", "p")}
        names = folder.drop_nulls().unique(maintain_order=True)
        for done, name in enumerate(names):
            display(STAGE, done, len(names))
            rows = np.flatnonzero((folder == name).fill_null(value=False).to_numpy())
            self._score(units[rows], rows, self.folders.by_name[name], columns)
        display(STAGE, len(names), len(names))
        return pl.DataFrame(
            {"with_images": folder.is_not_null()} | {f"cosy_{name}": values for name, values in columns.items()}
        ).fill_nan(None)

    def _score(
        self, labels: pl.DataFrame, rows: npt.NDArray[np.intp], images: Sequence[Path], columns: Mapping[str, Floats]
    ) -> None:
        """Score the labels with one folder, which are rows of the table of units."""
        layers = labels["layer"].unique(maintain_order=True).to_list()
        means = folder_means(self.result, self.network, images, layers)
        for layer in layers:
            of_layer = (labels["layer"] == layer).to_numpy()
            units = labels["unit"].to_numpy()[of_layer]
            for name, values in compared_activations(means[layer][:, units], self.control[layer][:, units]).items():
                columns[name][rows[of_layer]] = values
