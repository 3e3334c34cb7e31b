"""Compare whole runs: with the oracle, and with one another."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import oracle
import strategies
from netdissect.models import Network
from netdissect.result import LayerResult, Result


def hooked(
    network: Network, root: Path, images: tuple[str, ...], names: list[str], size: int
) -> dict[str, strategies.Floats]:
    """Run the network in batches of `size` with plain forward hooks: float32 (N, U, h, w) of each layer."""
    side = network.preprocessing.size
    mode = "L" if network.preprocessing.channels == 1 else "RGB"
    recorded: dict[str, list[strategies.Floats]] = {name: [] for name in names}
    hooks = [
        dict(network.module.named_modules())[name].register_forward_hook(
            lambda _module, _inputs, output, name=name: recorded[name].append(output.numpy().copy())
        )
        for name in names
    ]
    for start in range(0, len(images), size):
        pixels = []
        for image in images[start : start + size]:
            one_image = Image.open(root / "images" / image).convert(mode).resize((side.width, side.height), 2)
            pixels.append(np.asarray(one_image, dtype=np.float32).reshape(*side, -1).transpose(2, 0, 1))
        batch = np.ascontiguousarray(np.stack(pixels))
        with torch.no_grad(), network.prepared():  # weights laid out otherwise would take another convolution
            network.forward((torch.from_numpy(batch) - 127.5) / 128)
    for hook in hooks:
        hook.remove()
    maps = {name: np.concatenate(batches) for name, batches in recorded.items()}
    return {name: array.reshape(*array.shape[:2], *(array.shape[2:] or (1, 1))) for name, array in maps.items()}


def assert_layer_is_the_oracle_s(
    layer: LayerResult, expected: oracle.Counts, broden: oracle.Broden, maps: strategies.Floats, quantile: float
) -> None:
    """Compare thresholds, all counts, IoU, labels and top images of one layer."""
    thresholds = layer.thresholds.filter(quantile=quantile)
    assert thresholds["threshold"].to_list() == expected.thresholds.tolist()
    assert thresholds["max_activation"].to_list() == maps.max(axis=(0, 2, 3)).tolist()
    rows = layer.scores.filter(quantile=quantile).to_dicts()
    assert len(rows) == expected.units * len(broden.category_of)
    for row in rows:
        unit, label_id = row["unit"], row["label_id"]
        category_index = broden.category_of[label_id]
        assert (row["concept"], row["category"]) == (broden.names[label_id], broden.categories[category_index])
        counts = (row["intersection"], row["mask_pixels"], row["concept_pixels"])
        assert counts == (
            expected.intersection[unit, label_id], expected.activation[unit, category_index],
            expected.concept_pixels[label_id],
        )  # fmt: skip
        assert row["iou"] == pytest.approx(float(expected.iou(unit, label_id)), abs=1e-12)
    for row in layer.units.filter(quantile=quantile).to_dicts():
        label = expected.label(row["unit"])
        category_of_label = None if label is None else broden.categories[expected.category_of[label]]
        assert row["label"] == (None if label is None else broden.names[label])
        assert row["category"] == category_of_label
        for index, category in enumerate(broden.categories):
            best = expected.best(row["unit"], index)
            assert row[f"{category}-label"] == (None if best is None else broden.names[best])
    keep = layer.top_maps.shape[1]
    for unit, expected_images in enumerate(oracle.top_images(maps, keep)):
        top = layer.top.filter(unit=unit).sort("rank")
        assert top["image_index"].to_list() == expected_images
        assert top["image"].to_list() == [broden.images[row] for row in expected_images]
        np.testing.assert_array_equal(layer.top_maps[unit, : len(expected_images)], maps[expected_images, unit])


def assert_same_run(found: Result, expected: Result) -> None:
    """Compare two runs bit for bit, apart from when and how fast they were made."""
    for name in ("config", "network", "data", "layers", "fdr_limit", "fdr_limits"):
        assert getattr(found.info, name) == getattr(expected.info, name)
    assert found.concepts.equals(expected.concepts)
    assert list(found.layers) == list(expected.layers)
    for name, layer in found.layers.items():
        other = expected.layers[name]
        for table in ("thresholds", "units", "scores", "top"):
            assert getattr(layer, table).equals(getattr(other, table)), f"{name}: {table}"
        assert layer.top_maps.tobytes() == other.top_maps.tobytes()
        assert set(layer.statistics) == set(other.statistics)
        for table in layer.statistics:
            assert layer.statistics[table].collect().equals(other.statistics[table].collect()), f"{name}: {table}"


def contents(folder: Path) -> Mapping[str, tuple[bytes, int]]:
    """All files of a folder: what they hold and when they were written."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }
