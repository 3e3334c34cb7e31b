"""Files that are something else than they are called, and tables that a spreadsheet would run."""

import csv
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import polars as pl
import pytest
from PIL import EpsImagePlugin, Image

import netdissect
import strategies
from netdissect.activations.image_batches import read_image
from netdissect.concepts import ConceptData, Size
from netdissect.concepts.build.sample import Channel, Sample
from netdissect.concepts.build.writer import WriteOptions, write_dataset
from netdissect.concepts.image_io import read_upright
from netdissect.concepts.sources import parse_source
from netdissect.config import DissectConfig
from netdissect.dissect import dissect
from netdissect.errors import NetdissectError
from netdissect.models import Preprocessing
from netdissect.plots import example_images as shown
from netdissect.result import load_result, read_published, write_published
from netdissect.result.csv_frames import escaped_frame, plain_frame
from netdissect.result.files import corrupted_files
from networks import COVERAGE, SIDE, build, images

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
FORMULAS = ("=1+1", "+2", "-three", "@four", "\t=five", "'=six", "seven")


def test_an_eps_is_no_image_and_no_program_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(EPS)
    with Image.open(path) as image:
        assert image.format == "EPS", "Pillow alone would take it"
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("a program was run"))
    with pytest.raises(NetdissectError, match="cannot be read as an image"):
        read_upright(path)
    with pytest.raises(NetdissectError, match="cannot be read as an image"):
        read_image(path, Preprocessing(Size(8, 8), (0.5,) * 3, (0.5,) * 3))
    assert shown.read_image(tmp_path, "image.png") is None


def test_every_image_is_opened_by_the_function_that_knows_the_formats() -> None:
    root = Path(netdissect.__file__).parent
    opening = {path.name for path in root.rglob("*.py") if re.search(r"\bImage\.open\(", path.read_text("utf-8"))}
    assert opening == {"image_io.py"}


@pytest.fixture
def impatient() -> Iterator[None]:
    """End what waits for a pipe."""

    def waited(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError("a named pipe was waited for")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def of_data(name: str) -> Callable[[Path], tuple[Path, Callable[[], object]]]:
    def made(root: Path) -> tuple[Path, Callable[[], object]]:
        data = strategies.write_broden(root / "data", images(count=3), COVERAGE, image=(SIDE, SIDE))
        config = DissectConfig(layers=("fc",), protocol=strategies.definition("paper", 0.05).protocol)
        return data / name, lambda: dissect(build(), data, config=config)

    return made


def of_run(name: str) -> Callable[[Path], tuple[Path, Callable[[], object]]]:
    def made(root: Path) -> tuple[Path, Callable[[], object]]:
        _, run = of_data("")(root)
        result = run()
        netdissect.save_result(result, root / "run")
        return root / "run" / name, lambda: load_result(root / "run")

    return made


def of_labels(root: Path) -> tuple[Path, Callable[[], object]]:
    (root / "labels.csv").write_text("image,label\n1.png,cat\n")
    return root / "labels.csv", lambda: list(parse_source(f"labels:{root / 'labels.csv'}=object").samples("x"))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "made",
    [
        of_data("index.csv"), of_data("label.csv"), of_data("images/0.png"), of_data("images/0_0.png"),
        of_run("run.json"), of_run("layers/fc/units.parquet"), of_labels,
    ],
)  # fmt: skip
def test_a_named_pipe_in_place_of_a_file_is_not_waited_for(
    made: Callable[[Path], tuple[Path, Callable[[], object]]], tmp_path: Path
) -> None:
    path, read = made(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(NetdissectError, match=r"named pipe|it has no index\.csv|it has no run\.json"):
        read()


def named_in(path: Path, column: str) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row[column] for row in csv.DictReader(file)]


def test_names_that_a_spreadsheet_would_run_are_written_as_text_and_read_as_they_were(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(8), 2)[:, None].repeat(16, axis=1)
    names = dict(enumerate(FORMULAS, start=1))
    samples = [
        Sample(f"=own/{n}", np.zeros((16, 16, 3), np.uint8), {"object": [Channel(labels, names)]}) for n in range(4)
    ]
    data = ConceptData.open(write_dataset(tmp_path / "data", samples, WriteOptions(size=16)))
    read = {concept.name for concept in data.concepts}
    assert read == {"=1+1", "+2", "-three", "@four", "=five", "'=six", "seven"}
    assert [row.image for row in data.rows] == [f"=own/{n}.jpg" for n in range(4)]
    cells = [
        *named_in(tmp_path / "data" / "label.csv", "name"),
        *named_in(tmp_path / "data" / "c_object.csv", "name"),
        *named_in(tmp_path / "data" / "index.csv", "image"),
    ]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]
    config = DissectConfig(layers=("fc",), protocol=strategies.definition("paper", 0.3).protocol, batch_size=2)
    result = dissect(build(), data, config=config, out=tmp_path / "run")
    assert corrupted_files(tmp_path / "run")[1] == {}
    units = tmp_path / "run" / "layers" / "fc" / "units.csv"
    assert not re.search(r"(?:^|,)[=+@]", units.read_text(), re.MULTILINE)
    table = read_published(write_published(result, "fc", tmp_path / "fc.csv"))
    assert set(table.labels.names.ravel()) - {""} <= read
    assert not re.search(r"(?:^|,)[=+@]", (tmp_path / "fc.csv").read_text(), re.MULTILINE)


def test_tables_come_back_as_they_were_and_numbers_stay_numbers() -> None:
    table = pl.DataFrame({"=name": list(FORMULAS), "number": [-1.5] * len(FORMULAS), "none": [None, *FORMULAS[1:]]})
    written = escaped_frame(table)
    assert written.columns[0] == "'=name"
    assert written.to_series(0).to_list() == ["'=1+1", "'+2", "'-three", "'@four", "'\t=five", "''=six", "seven"]
    assert written["number"].to_list() == table["number"].to_list()
    assert plain_frame(written).equals(table)
