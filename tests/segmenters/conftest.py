"""A folder of images, and a segmenter that is trained on the synthetic data set in seconds."""

from pathlib import Path

import pytest
from PIL import Image

from netdissect.segmenters import Segmenter, load_segmenter
from netdissect.synthetic import render
from netdissect.training.segmentation.segmentation_net import SegmenterTrainConfig, save_segmenter
from netdissect.training.segmentation.train_segmenter import train_segmenter

TINY = SegmenterTrainConfig(
    size=64,
    num_images=90,
    held_out=20,
    units=(12, 24),
    steps=60,
    batch_size=12,
    learning_rate=1e-2,
    precision="float32",
)


@pytest.fixture(scope="session")
def trained_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a segmenter that knows the ground and the sky, and little else."""
    return save_segmenter(train_segmenter(TINY), tmp_path_factory.mktemp("segmenter") / "tiny.safetensors")


@pytest.fixture(scope="session")
def trained(trained_file: Path) -> Segmenter:
    """The segmenter of that file."""
    return load_segmenter(str(trained_file))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images without labels, one of them in a folder and of another shape."""
    root = tmp_path_factory.mktemp("photos")
    (root / "more").mkdir()
    for index in range(6):
        Image.fromarray(render(index, seed=5, size=64).image).save(root / f"{index}.png")
    Image.fromarray(render(6, seed=5, size=64).image).resize((90, 50)).save(root / "more" / "wide.png")
    return root
