"""`train_sae`: a sparse autoencoder of a layer, trained on any images."""

import hashlib
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError

from netdissect.concepts import ConceptData
from netdissect.concepts.dataset_folder import INDEX_FILE
from netdissect.config import Progress
from netdissect.counted import counted, size_text
from netdissect.dissect.devices import choose_device, torch_device
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import ConfigError, LayerError, ResultError
from netdissect.models import ActivationRecorder, Layer, Network, resolve_layers
from netdissect.models.as_network import refuse_without_images
from netdissect.models.dictionaries.dictionary_files import dictionary_bytes, read_dictionary, read_facts
from netdissect.models.dictionaries.sparse_dictionary import SparseDictionary
from netdissect.paths import check_writable, writing
from netdissect.progress import show_line
from netdissect.result.files import write_whole
from netdissect.training.classification_data import image_files
from netdissect.training.sparse_autoencoders.dictionary_trainer import (
    CellScale,
    DictionaryTrainer,
    batches,
    step_count,
)
from netdissect.training.sparse_autoencoders.layer_cells import (
    NO_SPACE,
    CellPlan,
    Cells,
    TrainingImages,
    record_cells,
)
from netdissect.training.sparse_autoencoders.sae_config import SaeConfig
from netdissect.training.sparse_autoencoders.training_report import SaeReport, measure

STAGE = "training"
CHECKPOINT_SECONDS = 10.0
REPORT, DIGEST = "report", "digest"


@dataclass(frozen=True, eq=False)
class TrainedSae:
    """A trained dictionary.

    Attributes
    ----------
    dictionary
        As its file holds it.
    report
        How well it rebuilds cells.
    path
        The file.
    """

    dictionary: SparseDictionary
    report: SaeReport
    path: Path


def train_sae(
    network: Network,
    layer: str,
    images: ConceptData | str | Path,
    out: str | Path,
    config: SaeConfig | None = None,
    *,
    progress: Progress | None = None,
) -> TrainedSae:
    """Train a sparse autoencoder on the cells of a layer, and write it as ``.safetensors``.

    Parameters
    ----------
    network, layer
        The layer.
    images
        A data set, or a folder of images, at any depth; they need no labels.
    out
        The file, which ``--basis sae:FILE`` reads. If it is there and was made of the same, nothing is trained.
    config
        Size and training; None: the default.
    progress
        Receives images (``activations``), steps (``training``) and cells (``report``).

    Returns
    -------
    TrainedSae
        The same for the same images, options, threads and library versions.

    Raises
    ------
    ConfigError
        If `k` exceeds the latents, several layers are named, there are fewer than two images or cells, the layer is
        constant, or the disk is too small.
    NetworkError
        If the network takes no images.
    LayerError
        If the layer cannot be dissected.
    ConceptsError
        If an image cannot be decoded.
    ResultError
        If there is another file in the place of `out`, its report is of another version, or it cannot be written.

    Notes
    -----
    Cells and checkpoints are kept in a folder next to `out` until it is written: the same call resumes.
    """
    job = _Job.of(network, layer, images, Path(out), config or SaeConfig())
    finished = job.finished()
    if finished is not None:
        return finished
    with WorkDir(job.folder, {"training": job.digest}, CHECKPOINT_SECONDS) as work:
        job.announce(work.path, progress)
        trained = job.trained(work, progress)
        work.remove()
    with suppress(OSError):  # another process has begun in it
        job.folder.rmdir()
    return trained


@dataclass(frozen=True)
class _Job:
    """One training: what it is of, and where it is kept."""

    network: Network
    layer: Layer
    plan: CellPlan
    out: Path
    config: SaeConfig
    device: torch.device

    @classmethod
    def of(cls, network: Network, layer: str, images: ConceptData | str | Path, out: Path, config: SaeConfig) -> "_Job":
        check_writable(out)
        refuse_without_images(network, "Training a sparse autoencoder")
        if config.k > config.latents:
            raise ConfigError(
                f"k = {config.k} of {config.latents} latents cannot be active. Expected k of at most that."
            )
        found = _one_layer(network, layer, config)
        files = _training_images(images)
        if len(files.paths) < 2:
            raise ConfigError(
                f"{images} holds {counted(len(files.paths), 'images')}. Expected at least two: one is held out."
            )
        plan = CellPlan.of(files, found, config.cells, config.train_seed, config.batch_size)
        return cls(network, found, plan, out, config, torch_device(choose_device(config.device, network)))

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the dictionary depends on; of image files, their names and sizes."""
        network = (self.network.digest, repr(self.network.preprocessing), self.layer.name)
        digest = hashlib.sha256(repr((*network, self.config.model_dump_json())).encode())
        for path in self.plan.images.paths:
            digest.update(repr((path.parent.name, path.name, path.stat().st_size)).encode())
        return digest.hexdigest()

    @property
    def folder(self) -> Path:
        """What is kept until the file is written."""
        return self.out.with_name(f"{self.out.name}-{self.digest[:12]}.training")

    @property
    def steps(self) -> int:
        """Training steps."""
        return step_count(int((~self.plan.held_out(self.config.holdout)).sum()), self.config)

    def facts(self, report: SaeReport) -> dict[str, str]:
        """Return the metadata of the file."""
        return {
            "activation": self.config.activation, "network": self.network.name, "layer": self.layer.name,
            "config": self.config.model_dump_json(), REPORT: report.model_dump_json(), DIGEST: self.digest,
        }  # fmt: skip

    def finished(self) -> TrainedSae | None:
        """Return the dictionary of an earlier call, if there is one."""
        if not self.out.exists():
            return None
        facts = read_facts(self.out)
        if facts.get(DIGEST) != self.digest:
            raise ResultError(
                f"{self.out} is there, and was not trained with these options on these images of this layer. Expected "
                "a new file: choose another --out, or remove it."
            )
        dictionary = read_dictionary(self.out, self.layer.units, self.layer.name)
        return TrainedSae(dictionary, self._kept_report(facts), self.out)

    def _kept_report(self, facts: Mapping[str, str]) -> SaeReport:
        try:
            return SaeReport.model_validate_json(facts.get(REPORT, ""))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "all of it"
            raise ResultError(
                f"the report in {self.out} cannot be read ({where}: {first['msg']}): another version of netdissect "
                f"wrote it. --basis sae:{self.out} reads the dictionary as it is. To train it again, choose another "
                "--out, or remove the file."
            ) from error

    def trained(self, work: WorkDir, progress: Progress | None) -> TrainedSae:
        """Record cells, train, measure, and write the file."""
        cells = record_cells(self.network, self.layer, self.plan, work, self.device, progress)
        held_out = self.plan.held_out(self.config.holdout)
        dictionary = self._train(cells, held_out, work, progress)
        found = measure(dictionary, cells, held_out, progress)
        report = SaeReport(
            network=self.network.name, layer=self.layer.name, units=dictionary.inputs, latents=dictionary.units,
            images=len(self.plan.images.paths), heldout_images=int(held_out.sum()) // self.plan.an_image,
            cells=len(cells), heldout_cells=int(held_out.sum()), steps=self.steps,
            nmse=found.nmse, r2=1 - found.nmse, l0=found.l0, dead=found.dead, dead_share=found.dead / dictionary.units,
        )  # fmt: skip
        content = dictionary_bytes(dictionary, self.facts(report))
        with writing(self.out, NO_SPACE):
            write_whole(self.out, lambda file: file.write(content))
        return TrainedSae(dictionary, report, self.out)

    def _train(
        self, cells: Cells, held_out: npt.NDArray[np.bool_], work: WorkDir, progress: Progress | None
    ) -> SparseDictionary:
        """Train on the cells that are not held out, from the last checkpoint on."""
        rows = np.flatnonzero(~held_out)
        trainer = DictionaryTrainer(self.config, self._scale(cells, rows), self.steps)
        saved = work.load(STAGE)
        if saved:
            trainer.resume({name: torch.from_numpy(np.asarray(array)) for name, array in saved.items()})

        def state() -> dict[str, npt.NDArray[Any]]:
            return {name: value.cpu().numpy() for name, value in trainer.state().items()}

        for chosen in batches(rows, self.config, trainer.done, self.steps):
            trainer.step(torch.from_numpy(cells[chosen]).to(self.device))
            if progress:
                progress(STAGE, trainer.done, self.steps)
            work.save(STAGE, state)
        return trainer.dictionary(self.layer.name)

    def _scale(self, cells: Cells, rows: npt.NDArray[np.int64]) -> CellScale:
        """Return mean and length of the cells at `rows`."""
        parts = np.array_split(rows, -(-len(rows) // 65_536))
        mean = sum(cells[part].sum(axis=0, dtype=np.float64) for part in parts) / len(rows)
        squares = sum(np.square(cells[part] - mean).sum() for part in parts) / len(rows)
        if not squares > 0:
            raise ConfigError(
                f"layer {self.layer.name!r} is the same at all {len(rows):,} cells. Expected one that differs: a dead "
                "layer has no dictionary."
            )
        return CellScale(torch.from_numpy(mean.astype(np.float32)).to(self.device), float(np.sqrt(squares)))

    def announce(self, folder: Path, progress: Progress | None) -> None:
        """State time, memory and disk, measured on one batch of noise and two training steps.

        Parameters
        ----------
        folder
            In which the training keeps its work.
        progress
            Shows the line.

        Raises
        ------
        ConfigError
            If the disk is too small.
        """
        units, latents, images = self.layer.units, self.config.latents, len(self.plan.images.paths)
        matrices = 8 * units * latents * 4  # two, each with gradient and moments
        disk = self.plan.cells * units * 4 + matrices
        memory = matrices + 6 * min(self.config.batch_cells, self.plan.cells) * latents * 4
        seconds = images * self._seconds_per_image() + self.steps * self._seconds_per_step()
        show_line(
            progress,
            f"{counted(images, 'images')}, {counted(self.plan.cells, 'cells')} of {units} units, {self.steps:,} steps: "
            f"about {max(1, round(seconds / 60))} min, {size_text(memory)} of memory above the network's own, "
            f"{size_text(disk)} of disk until the file is written",
        )
        free = shutil.disk_usage(folder).free
        kept = sum(file.stat().st_size for file in folder.iterdir())
        if disk - kept > free:
            raise ConfigError(
                f"{self.out.parent} has {size_text(free)} free, and {size_text(disk)} are needed. Expected more space, "
                "another disk for --out, or fewer --cells."
            )

    def _seconds_per_image(self) -> float:
        count = min(2, len(self.plan.images.paths))
        noise = self.network.preprocessing.noise(count)
        with self.network.prepared(self.device), ActivationRecorder(self.network, [self.layer]) as record:
            images = self.network.preprocessing.normalize(noise.to(self.device))
            record(images)
            began = time.perf_counter()
            record(images)
        return (time.perf_counter() - began) / count

    def _seconds_per_step(self) -> float:
        generator = torch.Generator().manual_seed(0)
        cells = torch.randn(min(self.config.batch_cells, self.plan.cells), self.layer.units, generator=generator)
        trainer = DictionaryTrainer(self.config, CellScale(torch.zeros(self.layer.units, device=self.device), 1.0), 100)
        trainer.step(cells.to(self.device))
        began = time.perf_counter()
        trainer.step(cells.to(self.device))
        return time.perf_counter() - began


def _one_layer(network: Network, layer: str, config: SaeConfig) -> Layer:
    try:
        found = resolve_layers(network, [layer], config.assumed, all_matching=True)
    except LayerError:
        if "," not in layer:
            raise
        found, count = (), len(layer.split(","))
    else:
        count = len(found)
    if count != 1:
        raise ConfigError(f"{layer!r} names {count} layers. Expected one; each has a dictionary of its own.")
    return found[0]


def _training_images(images: ConceptData | str | Path) -> TrainingImages:
    if not isinstance(images, ConceptData):
        if not (Path(images) / INDEX_FILE).is_file():
            return TrainingImages(tuple(image_files(images)), as_stored=False)
        images = ConceptData.open(images)
    return TrainingImages(tuple(images.image_path(row) for row in range(len(images))), as_stored=True)
