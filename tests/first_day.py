"""The folder of a researcher on the first day: labeled images, a data set, a network, a run, other files."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import netdissect
from netdissect import Network, Preprocessing

SIDE = 32
PREPROCESSING = Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.25,) * 3)
FACTORY = "factories_of_the_first_day"


class Tiny(nn.Module):
    """Two convolutions and a head; one layer that is never run."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), nn.ReLU())
        self.unused = nn.Conv2d(3, 2, 1)
        self.head = nn.Linear(5, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return scores of classes."""
        return self.head(self.conv2(self.conv1(images)).mean((2, 3)))


class Pair(nn.Module):
    """A layer that returns two maps of other sizes, and a network around it."""

    def __init__(self, inner: bool = False) -> None:
        super().__init__()
        self.pair = nn.Identity() if inner else Pair(inner=True)
        self.inner = inner

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """Return both, or the first."""
        return (images * 1.5, images[:, :, ::2, ::2] * 2.0) if self.inner else self.pair(images)[0]


def filled(value: float) -> Tiny:
    """Return a network whose second layer gives one value everywhere."""
    module = Tiny()
    with torch.no_grad():
        module.conv2[0].weight.zero_()
        module.conv2[0].bias.fill_(value)
    return module


def network() -> Network:
    return Network("tiny", Tiny(), PREPROCESSING)


FACTORIES = """
from first_day import PREPROCESSING, Pair, Tiny, filled


def tiny():
    return Tiny(), PREPROCESSING


def poisoned():
    return filled(float("nan")), PREPROCESSING


def pair():
    return Pair(), PREPROCESSING


def module_alone():
    return Tiny()


def swapped():
    return PREPROCESSING, Tiny()


def wants_an_argument(classes):
    return Tiny(classes), PREPROCESSING
"""


def square_and_mask(rng: np.random.Generator, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Draw a red square somewhere on a gray wall."""
    image = np.full((side, side, 3), 120, np.uint8) + rng.integers(0, 8, (side, side, 3), dtype=np.uint8)
    mask = np.ones((side, side), np.uint8)
    top, left = rng.integers(0, side - 12, 2)
    image[top : top + 12, left : left + 12] = (220, 20, 20)
    mask[top : top + 12, left : left + 12] = 2
    return image, mask


def write_labeled(folder: Path, count: int = 8) -> Path:
    """Write images, masks and the names of their values."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    (folder / "classes.csv").write_text("value,name\n0,\n1,wall\n2,square\n")
    rng = np.random.default_rng(0)
    for index in range(count):
        image, mask = square_and_mask(rng)
        Image.fromarray(image).save(folder / "images" / f"{index}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
    return folder


def build(source: str | Path, out: Path) -> Path:
    netdissect.build_dataset(
        out, netdissect.parse_source(f"masks:{source}"), netdissect.WriteOptions(size=SIDE), workers=1
    )
    return out


def write_first_day(root: Path) -> Path:
    """Write everything that mistakes are made with."""
    write_labeled(root / "labeled")
    data = build(root / "labeled", root / "data")
    (root / f"{FACTORY}.py").write_text(FACTORIES)
    netdissect.dissect(network(), data, layers=["conv2"], out=root / "run", bootstrap=0, permutations=0)
    write_checkpoints(root)
    (root / "notes.csv").write_text("a,b\n1,2\n")
    (root / "notes.txt").write_text("nothing of ours\n")
    (root / "empty").mkdir()
    (root / "taken").mkdir()
    (root / "taken" / "thesis.tex").write_text("ten months of work")
    shutil.copytree(root / "run", root / "crashed")
    (root / "crashed" / "run.json").unlink()
    shutil.copytree(root / "labeled" / "images", root / "pictures")
    return root


def write_checkpoints(root: Path) -> None:
    """Write weights as people keep them."""
    state = Tiny().state_dict()
    torch.save(state, root / "weights.pth")
    torch.save({key: value for key, value in state.items() if not key.startswith("head")}, root / "headless.pth")
    torch.save({f"module.{key}": value for key, value in state.items()}, root / "parallel.pth")
    torch.save({f"_orig_mod.{key}": value for key, value in state.items()}, root / "compiled.pth")
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3)).state_dict(), root / "other.pth")
    torch.save(Tiny(), root / "module.pth")
    torch.save({"optimizer": {"state": {}}, "epoch": 3}, root / "optimizer.pth")


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Check that no file below a folder is written, changed or removed."""
    before = files(folder)
    yield
    assert files(folder) == before


def files(folder: Path) -> dict[str, tuple[int, int] | None]:
    """Return size and time of each file, and the folders."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }
