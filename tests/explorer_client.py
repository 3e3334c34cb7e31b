"""What the explorer's tests share: two runs and what made them, images to send, tables to read back."""

import csv
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

import strategies
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.explorer import create_app, guarded
from netdissect.explorer.server import _bind
from netdissect.models import Network
from netdissect.result import Result

LAYERS = ["wide_relu", "deep_relu"]
QUANTILES = (0.02, 0.2)
HOSTILE = "<script>alert(1)</script>"
HOME = "http://127.0.0.1:8461"
CONFIG = DissectConfig(
    layers=tuple(LAYERS), protocol=Protocol(quantiles=QUANTILES), top_images=6, batch_size=4, min_iou=0.01,
    statistics=StatisticsConfig(bootstrap=50, holdout=0.5, permutations=20, extra_metrics=True, sensitivity=(0.1,)),
)  # fmt: skip


class Pair:
    """Two runs in folders, and what made them."""

    def __init__(
        self, folders: tuple[Path, Path], results: tuple[Result, Result], made: tuple[Network, Network],
        data: Path, maps: dict[str, strategies.Floats],
    ) -> None:  # fmt: skip
        self.folders, self.results, self.networks, self.data, self.maps = folders, results, made, data, maps

    @property
    def given(self) -> dict[str, Network]:
        """The networks as `serve` takes them."""
        return {folder.name: network for folder, network in zip(self.folders, self.networks, strict=True)}


@contextmanager
def asking_both(pair: Pair, folder: Path) -> Iterator[TestClient]:
    """Ask an explorer of both runs that keeps its ratings in a folder."""
    app = create_app(pair.folders, network=pair.given, ratings=folder / "ratings.sqlite")
    with TestClient(guarded(app), base_url=HOME) as client:
        yield client


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Run a real server of an explorer, and yield its address."""
    server = uvicorn.Server(uvicorn.Config(guarded(app), log_config=None, lifespan="on"))
    with _bind("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def image_bytes(size: tuple[int, int] = (40, 30), kind: str = "PNG", **options: object) -> bytes:
    """Encode an image of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind, **options)
    return file.getvalue()


def table(text: str) -> list[dict[str, str]]:
    """Read a CSV."""
    return list(csv.DictReader(io.StringIO(text)))
