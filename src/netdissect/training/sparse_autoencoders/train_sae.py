"""`train_sae`: a sparse autoencoder of a layer, trained on any images."""

import hashlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch

from netdissect.concepts import ConceptData
from netdissect.concepts.dataset_folder import INDEX_FILE
from netdissect.config import Progress
from netdissect.counted import counted
from netdissect.dissect.devices import choose_device, torch_device
from netdissect.errors import ConfigError, ResultError
from netdissect.models import ActivationRecorder, Layer, Network, resolve_layers
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

STATE_FILE = "training.safetensors"
CHECKPOINT_SECONDS = 30.0
WRITES = 20  # times as long as a checkpoint takes to write, the next is not written
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
        If `k` exceeds the latents, there are fewer than two images or cells, the layer is constant, or the disk is
        too small.
    LayerError
        If the layer cannot be dissected.
    ConceptsError
        If an image cannot be decoded.
    ResultError
        If there is another file in the place of `out`, or it cannot be written.

    Notes
    -----
    Cells and checkpoints are kept in a folder next to `out` until it is written: the same call resumes.
    """
    job = _Job.of(network, layer, images, Path(out), config or SaeConfig())
    finished = job.finished()
    if finished is not None:
        return finished
    with writing(job.folder, NO_SPACE):
        job.folder.mkdir(parents=True, exist_ok=True)
    job.announce(progress)
    cells = record_cells(network, job.layer, job.plan, job.folder, job.device, progress)
    held_out = job.plan.held_out(job.config.holdout)
    dictionary = job.train(cells, held_out, progress)
    found = measure(dictionary, cells, held_out, progress)
    report = SaeReport(
        network=network.name, layer=job.layer.name, units=dictionary.inputs, latents=dictionary.units,
        images=len(job.plan.images.paths), cells=len(cells), heldout_cells=int(held_out.sum()), steps=job.steps,
        nmse=found.nmse, r2=1 - found.nmse, l0=found.l0, dead=found.dead, dead_share=found.dead / dictionary.units,
    )  # fmt: skip
    content = dictionary_bytes(dictionary, job.facts(report))
    with writing(job.out, NO_SPACE):
        write_whole(job.out, lambda file: file.write(content))
    del cells
    shutil.rmtree(job.folder, ignore_errors=True)
    return TrainedSae(dictionary, report, job.out)


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
        if network.draws:
            raise ConfigError(f"{network.name!r} is a generator, which takes no images. Expected another network.")
        if config.k > config.latents:
            raise ConfigError(f"k = {config.k} of {config.latents} latents cannot be active. Expected k below that.")
        found = resolve_layers(network, [layer], config.assumed)
        if len(found) != 1:
            raise ConfigError(f"{layer!r} names {len(found)} layers. Expected one; each has a dictionary of its own.")
        files = _training_images(images)
        if len(files.paths) < 2:
            raise ConfigError(
                f"{images} holds {counted(len(files.paths), 'images')}. Expected at least two: one is held out."
            )
        plan = CellPlan.of(files, found[0], config.cells, config.train_seed, config.batch_size)
        return cls(network, found[0], plan, out, config, torch_device(choose_device(config.device, network)))

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
        return TrainedSae(dictionary, SaeReport.model_validate_json(facts[REPORT]), self.out)

    def train(self, cells: Cells, held_out: npt.NDArray[np.bool_], progress: Progress | None) -> SparseDictionary:
        """Train on the cells that are not held out, from the last checkpoint on."""
        rows = np.flatnonzero(~held_out)
        trainer = DictionaryTrainer(self.config, self._scale(cells, rows), self.steps)
        path = self.folder / STATE_FILE
        if path.exists():
            trainer.resume(_read_state(path))
        saved, interval = time.monotonic(), CHECKPOINT_SECONDS
        for chosen in batches(rows, self.config, trainer.done, self.steps):
            trainer.step(torch.from_numpy(cells[chosen]).to(self.device))
            if progress:
                progress("training", trainer.done, self.steps)
            began = time.monotonic()
            if began - saved > interval:
                self._save(trainer, path)
                saved = time.monotonic()
                interval = max(CHECKPOINT_SECONDS, WRITES * (saved - began))
        return trainer.dictionary(self.layer.name)

    def _save(self, trainer: DictionaryTrainer, path: Path) -> None:
        plain = {name: value.detach().cpu().contiguous() for name, value in trainer.state().items()}
        content = safetensors.torch.save(plain)
        with writing(path, NO_SPACE):
            write_whole(path, lambda file: file.write(content), checksum=False)

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

    def announce(self, progress: Progress | None) -> None:
        """State time, memory and disk, measured on one batch of noise and two training steps.

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
            f"about {max(1, round(seconds / 60))} min, {memory / 1e9:.1f} GB of memory above the network's own, "
            f"{disk / 1e9:.1f} GB of disk until the file is written",
        )
        free = shutil.disk_usage(self.folder).free
        kept = sum(file.stat().st_size for file in self.folder.iterdir())
        if disk - kept > free:
            raise ConfigError(
                f"{self.folder.parent} has {free / 1e9:.1f} GB free, and {disk / 1e9:.1f} GB are needed. Expected more "
                "space, another disk for --out, or fewer --cells."
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


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ResultError(
            f"{path}, from which the training resumes, is damaged ({error}). Remove it; the training begins anew."
        ) from error


def _training_images(images: ConceptData | str | Path) -> TrainingImages:
    if not isinstance(images, ConceptData):
        if not (Path(images) / INDEX_FILE).is_file():
            return TrainingImages(tuple(image_files(images)), as_stored=False)
        images = ConceptData.open(images)
    return TrainingImages(tuple(images.image_path(row) for row in range(len(images))), as_stored=True)
