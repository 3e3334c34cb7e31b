"""How far labels from masks of a segmenter differ from labels from the true masks, on the synthetic data set.

    python -m benchmarks.machine_masks OUT [--images N] [--steps N] [--side N] [--train-images N] [--encoder none]

Trains a segmenter on images of the synthetic data set, segments other images of it, and dissects one scene network on
the same images twice: with the true masks and with those of the segmenter.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np

import netdissect
from netdissect.concepts import ConceptData
from netdissect.segmenters import MachineLabelOptions
from netdissect.training import SegmenterTrainConfig, save_segmenter, train_segmenter
from netdissect.training.scene_net import FAST, save_trained
from netdissect.training.train import train

IMAGES, SEED = 1000, 0
MIN_IOU, QUANTILE = 0.04, 0.005
CATEGORIES = ("object", "part", "material", "texture", "color")


def made(path: Path, make: object) -> Path:
    if not path.exists():
        make(path)  # type: ignore[operator]
    return path


def photos(data: ConceptData, folder: Path) -> Path:
    """Copy the images alone, without their labels."""
    if not folder.exists():
        for row in data.rows:
            target = folder / row.image.removeprefix("synthetic/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data.root / "images" / row.image, target)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--steps", type=int, default=SegmenterTrainConfig().steps)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--train-images", type=int, default=SegmenterTrainConfig().num_images)
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--balance", type=float, default=0.3)
    parser.add_argument("--precision", default="bfloat16")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    config = SegmenterTrainConfig(
        steps=asked.steps, size=asked.side, num_images=asked.train_images, precision=asked.precision,
        encoder=None if asked.encoder == "none" else asked.encoder, balance=asked.balance,
    )  # fmt: skip
    scene = FAST.model_copy(update={"size": asked.side, "precision": "float32"})
    weights = made(asked.out / "segmenter.safetensors", lambda path: save_segmenter(train_segmenter(config), path))
    network = made(asked.out / "network.safetensors", lambda path: save_trained(train(scene), path))
    true = asked.out / "true"
    made(true, lambda path: netdissect.write_synthetic(path, images=asked.images, seed=SEED, size=asked.side))
    folder = photos(ConceptData.open(true), asked.out / "photos" / "0")
    machine = asked.out / "machine"
    if not machine.exists():
        write = netdissect.WriteOptions(size=asked.side, colors=True, image_format="png")
        options = MachineLabelOptions(write=write, compare=true, batch_size=32)
        netdissect.segment_dataset(machine, folder, netdissect.load_segmenter(str(weights)), options)
    results = []
    for name in ("true", "machine"):
        data = ConceptData.open(asked.out / name, categories=CATEGORIES)
        results.append(
            netdissect.dissect(
                netdissect.load_network(str(network)), data, layers=["conv3", "conv4", "conv5"], quantile=QUANTILE,
                batch_size=64, out=asked.out / f"run-{name}",
            )
        )  # fmt: skip
    print(json.dumps(compared(*results), indent=2))
    print(f"{time.process_time():.0f} s of processor time in this process")


def compared(true: netdissect.Result, machine: netdissect.Result) -> dict[str, object]:
    found: dict[str, object] = {"masks": agreement(machine)}
    for name in true.layers:
        left, right = (result.layer(name).units.sort("unit") for result in (true, machine))
        labels = [list(zip(units["label"], units["category"], strict=True)) for units in (left, right)]
        ious = [units["iou"].to_numpy() for units in (left, right)]
        detectors = [iou >= MIN_IOU for iou in ious]
        same = np.array([a == b for a, b in zip(*labels, strict=True)])
        either = detectors[0]
        found[name] = {
            "units": len(left),
            "detectors": [int(one.sum()) for one in detectors],
            "unique": [
                len({a for a, d in zip(label, one, strict=True) if d})
                for label, one in zip(labels, detectors, strict=True)
            ],
            "labels kept, of detectors with true masks": [int((same & either).sum()), int(either.sum())],
            "still a detector": int((detectors[0] & detectors[1]).sum()),
            "median IoU of kept detectors": [float(np.median(iou[same & either])) for iou in ious],
            "correlation of IoU": float(np.corrcoef(*ious)[0, 1]),
            "by category": by_category(labels, detectors, same),
        }
    return found


def by_category(
    labels: list[list[tuple[str, str]]], detectors: list[np.ndarray], same: np.ndarray
) -> dict[str, list[int]]:
    """Return detectors with true and with machine masks, and how many of the first keep their label."""
    rows = {}
    for category in CATEGORIES:
        of = [
            np.array([label[1] == category for label in each]) & found
            for each, found in zip(labels, detectors, strict=True)
        ]
        rows[category] = [int(of[0].sum()), int(of[1].sum()), int((of[0] & same).sum())]
    return rows


def agreement(machine: netdissect.Result) -> dict[str, object]:
    masks = machine.info.data.masks
    assert masks is not None
    assert masks.agreement is not None
    rows = masks.agreement.concepts
    by = {name: [row.iou for row in rows if row.category == name] for name in {row.category for row in rows}}
    return {
        "mIoU": [masks.agreement.miou, masks.agreement.miou_ci_low, masks.agreement.miou_ci_high],
        "by category": {name: [len(ious), float(np.mean(ious))] for name, ious in sorted(by.items())},
        "concepts": {f"{row.concept} ({row.category})": round(row.iou, 3) for row in rows},
    }


if __name__ == "__main__":
    main()
