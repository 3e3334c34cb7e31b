"""The error of a small segmenter for skin and hair on photographs that it was not trained on, and on their heads.

    python -m benchmarks.skin_and_hair CCP OUT [--encoder none] [--steps N] [--size N]

CCP is a folder with the images, masks and classes.csv of Clothing Co-Parsing. The segmenter is that of the page on
generators: trained on one split, it is compared on the other with the masks of people, on whole photographs and on
crops of their heads, 64 x 64 pixels each, which are what a generator of faces draws.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import netdissect
from netdissect.concepts import ConceptData
from netdissect.concepts.build.sample import Channel, Sample
from netdissect.concepts.transfer.subset_merge import Selection, subset
from netdissect.segmenters import MachineLabelOptions
from netdissect.training import SegmenterTrainConfig, dataset_maps, save_segmenter, train_on_maps

SIDE, HEAD = 320, 64
LABELS = ("skin", "hair")
MARGIN = 1.25
"""Side of the crop of a head, in widths of its hair."""


@dataclass(frozen=True)
class Heads:
    """The heads of a data set of people, squares in the proportions of the photographs."""

    data: ConceptData
    text: str = "heads"
    name: str = "heads"

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield the head of each person with hair."""
        ids = {concept.name: concept.label_id for concept in self.data.concepts}
        for row, entry in enumerate(self.data.rows):
            labels = self.data.labels(row).label_channels
            hair = (labels == ids["hair"]).any(0)
            if not hair.any():
                continue
            left, top, right, bottom = self.box(hair)
            values = sum(number * (labels == ids[name]).any(0) for number, name in enumerate(LABELS, 1))
            image = Image.open(self.data.image_path(row)).crop((2 * left, 2 * top, 2 * right, 2 * bottom))
            image = image.resize((HEAD, HEAD), Image.Resampling.BILINEAR)
            part = Image.fromarray(values.astype(np.uint8)).crop((left, top, right, bottom))
            masks = np.asarray(part.resize((HEAD, HEAD), Image.Resampling.NEAREST))
            yield Sample(
                f"{prefix}/{Path(entry.image).stem}",
                image,
                {"part": [Channel(masks, dict(enumerate(LABELS, 1)), "heads")]},
            )

    @staticmethod
    def box(hair: np.ndarray) -> tuple[int, int, int, int]:
        """Return the box of a head, in cells of the label map, from its top; photographs are 275 x 415 pixels."""
        rows, columns = np.nonzero(hair)
        wide = max(8.0, MARGIN * (columns.max() - columns.min() + 1))
        high = wide * 275 / 415
        center, top = (columns.max() + columns.min() + 1) / 2, rows.min() - 0.1 * high
        box = (center - wide / 2, top, center + wide / 2, top + high)
        return tuple(int(np.clip(round(at), 0, SIDE // 2)) for at in box)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ccp", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--size", type=int, default=128)
    asked = parser.parse_args()
    people, write = asked.out / "people", netdissect.WriteOptions(size=SIDE)
    if not people.exists():
        netdissect.build_dataset(people, [netdissect.parse_source(f"masks:{asked.ccp}=part")], write)
    for split in ("train", "val"):
        if not (asked.out / split).exists():
            subset(people, asked.out / split, Selection(concepts=LABELS, split=split), workers=1)
    if not (asked.out / "heads").exists():
        heads = Heads(ConceptData.open(asked.out / "val"))
        netdissect.build_dataset(asked.out / "heads", [heads], netdissect.WriteOptions(size=HEAD))
    weights = asked.out / "skin_hair.safetensors"
    if not weights.exists():
        data, started = ConceptData.open(asked.out / "train"), time.process_time()
        config = SegmenterTrainConfig(
            size=asked.size, held_out=4, steps=asked.steps, batch_size=12, learning_rate=3e-3, smallest_crop=0.12,
            darken=2, encoder=None if asked.encoder == "none" else asked.encoder, units=(16, 32, 64, 96),
        )  # fmt: skip
        save_segmenter(train_on_maps(dataset_maps(data, range(len(data)), SIDE), config), weights)
        print(f"trained in {time.process_time() - started:.0f} s of processor time")
    segmenter = netdissect.load_segmenter(str(weights))
    for name, size in (("val", SIDE), ("heads", HEAD)):
        options = MachineLabelOptions(write=netdissect.WriteOptions(size=size), compare=asked.out / name)
        images = asked.out / name / "images"
        made = netdissect.segment_dataset(asked.out / f"machine-{name}", images, segmenter, options, overwrite=True)
        print(name, netdissect.console_tables.mask_agreement(made.masks), sep="\n")


if __name__ == "__main__":
    main()
