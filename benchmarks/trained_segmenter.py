"""The error of a small segmenter that is trained on half of a labeled data set, on the other half.

    python -m benchmarks.trained_segmenter SOURCE IMAGES OUT [--size N] [--steps N] [--background]

SOURCE is as for `netdissect concepts build`, such as masks:camvid, and IMAGES its folder of images. A data set is
built of every second image each. `--background`: unlabeled pixels are no concept, as where people labeled all there
is to label.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import netdissect
from netdissect.concepts import ConceptData
from netdissect.concepts.build.sample import Sample
from netdissect.concepts.sources import ConceptSource
from netdissect.segmenters import MachineLabelOptions
from netdissect.training import SegmenterTrainConfig, dataset_maps, save_segmenter, train_on_maps

HELD_OUT = 4
"""Of the training half; the other half is what is measured."""


@dataclass(frozen=True)
class Half:
    """Every second sample of a source."""

    source: ConceptSource
    first: int

    @property
    def name(self) -> str:
        """Of the source."""
        return self.source.name

    @property
    def text(self) -> str:
        """Of the source, and which half."""
        return f"{self.source.text}, from {self.first}"

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield every second sample."""
        yield from list(self.source.samples(prefix))[self.first :: 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--background", action="store_true")
    asked = parser.parse_args()
    write = netdissect.WriteOptions(size=asked.size)
    for first, name in enumerate(("train", "human")):
        if not (asked.out / name).exists():
            netdissect.build_dataset(asked.out / name, [Half(netdissect.parse_source(asked.source), first)], write)
    weights = asked.out / "segmenter.safetensors"
    if not weights.exists():
        data = ConceptData.open(asked.out / "train")
        config = SegmenterTrainConfig(
            size=asked.size, steps=asked.steps, batch_size=8, held_out=HELD_OUT, units=(16, 32, 64, 64),
            ignore_unlabeled=not asked.background, precision="float32",
        )  # fmt: skip
        save_segmenter(train_on_maps(dataset_maps(data, range(len(data)), asked.size), config), weights)
    options = MachineLabelOptions(write=write, compare=asked.out / "human")
    segmenter = netdissect.load_segmenter(str(weights))
    made = netdissect.segment_dataset(asked.out / "machine", asked.images, segmenter, options, overwrite=True)
    print(netdissect.console_tables.mask_agreement(made.masks))


if __name__ == "__main__":
    main()
