"""Write the data set on which a generator is dissected: its samples, with the labels of a segmenter and colors.

    generator -> images of its samples, in a hidden folder beside the target -> segment_dataset -> data set

Images that were drawn, and label maps that were made, are kept until the data set is complete: an interrupted command
resumes. The dissection draws each sample again from its latents, and reads the labels from here.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import Field

from netdissect.activations.sample_reader import sample_name
from netdissect.concepts import ConceptData
from netdissect.concepts.build.atomic_dir import reported
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.machine_masks import read_machine_masks
from netdissect.config import Progress
from netdissect.config_fields import Config
from netdissect.dissect.devices import choose_device, torch_device
from netdissect.errors import ConceptsError, ConfigError
from netdissect.models import Generator
from netdissect.progress import ShowProgress, shown
from netdissect.segmenters.segment_dataset import MachineLabelOptions, segment_dataset
from netdissect.segmenters.segmenter import Segmenter

KEY = "generator.json"
STAGE = "drawing"


class SampleOptions(Config):
    """Which samples of a generator are drawn, and how they are labeled."""

    samples: int = Field(10_000, ge=1, description="Number of samples.")
    sample_seed: int = Field(0, ge=0, description="Seed of the samples: sample i depends on it and on i alone.")
    batch_size: int = Field(16, ge=1, description="Samples in one pass of the generator.")
    device: str = Field("auto", description="Torch device of the generator.")


def segment_samples(
    generator: Generator,
    segmenter: Segmenter,
    out: str | Path,
    options: SampleOptions | None = None,
    *,
    progress: ShowProgress = None,
) -> Path:
    """Draw samples of a generator and label their pixels with a segmenter.

    Parameters
    ----------
    generator
        Draws square images.
    segmenter
        From `load_segmenter`.
    out
        Folder of the data set. A finished one of the same samples and segmenter is kept.
    options
        None: 10,000 samples of seed 0.
    progress
        As for `netdissect.build_dataset`.

    Returns
    -------
    Path
        The folder, on which `netdissect.dissect` takes the generator.

    Raises
    ------
    NetworkError
        If the network is no generator, or its images are not square.
    SegmenterError
        If the segmenter fails or labels no pixel.
    ConceptsError
        If another data set is in the way, or the disk cannot be written.
    """
    out, options = Path(out), options or SampleOptions()
    side, width = generator.preprocessing.size
    if side != width or side < 2:
        raise ConfigError(
            f"the generator {generator.name!r} draws images of {side} x {width} pixels. Expected square ones; wrap the "
            "module so that it crops or pads them."
        )
    if (out / "index.csv").is_file():
        _check_same(out, segmenter, options)
        return out
    hidden = out.absolute().with_name(f".{out.name}.drawing")
    with shown(progress) as display:
        with reported(out, keep=True):
            draw_samples(generator, hidden / "samples", options, display)
        # With colors, or samples without a pixel that the segmenter labels would not take part.
        write = WriteOptions(size=side, colors=True, image_format="png")
        segment_dataset(out, hidden / "samples", segmenter, MachineLabelOptions(write=write), progress=display)
    shutil.rmtree(hidden)
    return out


def draw_samples(generator: Generator, folder: Path, options: SampleOptions, progress: Progress | None = None) -> None:
    """Write the images of samples, ``folder/SEED/THOUSANDS/INDEX.png``; those that are there already are kept.

    What another generator drew there, or the same with other weights, is removed.
    """
    key = {"digest": generator.digest, "preprocessing": [*generator.preprocessing.mean, *generator.preprocessing.std]}
    note, expected = folder.parent / KEY, json.dumps(key).encode()
    if not note.is_file() or note.read_bytes() != expected:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        note.write_bytes(expected)
    paths = [folder.parent / f"{sample_name(options.sample_seed, index)}.png" for index in range(options.samples)]
    _remove_others(folder, paths)
    left = [index for index, path in enumerate(paths) if not path.is_file()]
    with generator.prepared(torch_device(choose_device(options.device, generator))):
        for start in range(0, len(left), options.batch_size):
            batch = left[start : start + options.batch_size]
            samples = torch.tensor([(options.sample_seed, index) for index in batch])
            for index, image in zip(batch, generator.images(samples).cpu().numpy(), strict=True):
                _write_image(image, paths[index])
            if progress:
                progress(STAGE, len(paths) - len(left) + start + len(batch), len(paths))


def _remove_others(folder: Path, paths: Sequence[Path]) -> None:
    """Remove samples that an interrupted command drew and this one does not ask for."""
    asked = {*paths}
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path not in asked:
            path.unlink()


def _write_image(image: npt.NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).convert("RGB").save(part, format="PNG")
    part.replace(path)


def _check_same(out: Path, segmenter: Segmenter, options: SampleOptions) -> None:
    """Refuse a finished data set of other samples or another segmenter."""
    data, masks = ConceptData.open(out), read_machine_masks(out)
    expected = {f"{sample_name(options.sample_seed, index)}.png" for index in range(options.samples)}
    if {row.image for row in data.rows} != expected:
        found = f"{len(data.rows):,} images, not the {options.samples:,} samples of seed {options.sample_seed}"
    elif masks is None or masks.segmenter_digest != segmenter.digest:
        found = f"labels of {'people' if masks is None else masks.segmenter}, not of {segmenter.spec}"
    else:
        return
    raise ConceptsError(f"{out} holds {found}. Expected the same samples and segmenter, or a free name; name another.")
