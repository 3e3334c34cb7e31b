"""What packed images save: time of reading an image, and of a whole run.

    python -m benchmarks.image_cache DATA [--network NAME --weights none] [--layer LAYER] [--pairs 5] [--max-images N]

First the processor time of decoding, of reading the same packed images, and of normalizing them, in one thread. Then
pairs of runs in processes of their own, in turn: without packed images, and with those of an uncounted first run.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer

from benchmarks.process import cpu_seconds, interleaved, prepared
from netdissect.activations import ImageReader, batch_starts
from netdissect.concepts import ConceptData
from netdissect.models import Network, load_network


def one_image(data: ConceptData, network: Network, folder: Path) -> None:
    """Print processor time for each image."""
    prepared()
    torch.set_num_threads(1)
    starts = batch_starts(len(data), 16)
    decoding, packed = (ImageReader(data, network.preprocessing, cache) for cache in (None, folder))

    def read(reader: ImageReader) -> Callable[[], None]:
        def batches() -> None:
            for _ in reader.batches(starts, workers=1):
                pass

        return batches

    pixels = torch.from_numpy(decoding.read(range(16)))

    def normalize() -> None:
        for _ in starts:
            network.preprocessing.normalize(pixels)

    begun = cpu_seconds(read(packed))
    for name, seconds in (
        ("decode", cpu_seconds(read(decoding))),
        ("decode and pack", begun),
        ("read packed", cpu_seconds(read(packed))),
        ("normalize", cpu_seconds(normalize)),
    ):
        print(f"{name:16} {1000 * seconds / len(data):.3f} ms of processor time an image")


def main(
    data: Path,
    network: Annotated[str, typer.Option()] = "efficientnet_lite0",
    weights: Annotated[str | None, typer.Option()] = None,
    layer: Annotated[str, typer.Option()] = "_blocks.15",
    pairs: Annotated[int, typer.Option()] = 5,
    max_images: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Measure both."""
    loaded = [] if weights is None else ["--weights", weights]
    limit = [] if max_images is None else ["--max-images", str(max_images)]
    with TemporaryDirectory() as folder:
        one_image(
            ConceptData.open(data, max_images=max_images), load_network(network, weights=weights), Path(folder, "one")
        )

        def run(*options: str) -> Callable[[], object]:
            def call() -> object:
                with TemporaryDirectory() as out:
                    command = ["run", network, *loaded, "--concepts", str(data), "--layer", layer, *limit]
                    fixed = ["--bootstrap", "0", "--permutations", "0", "--no-layout-check", "--out", f"{out}/run"]
                    cache = ["--cache-folder", f"{folder}/cache", *options]
                    return subprocess.run(
                        [sys.executable, "-c", "from netdissect.cli import main; main()", *command, *fixed, *cache],
                        check=True, capture_output=True,
                    )  # fmt: skip

            return call

        found = interleaved(run("--image-cache"), run(), pairs)
    print(
        f"run with packed images {found.left:.1f} s, without {found.right:.1f} s; ratio {found.ratio:.3f}, "
        f"of processor time {found.computing:.3f} ({pairs} pairs)"
    )


if __name__ == "__main__":
    typer.run(main)
