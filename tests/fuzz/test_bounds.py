"""Files that claim to be far larger than they are: refused, in little memory."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import strategies
from corruption import png_of
from networks import COVERAGE, SIDE, images

# Beyond what the libraries take when they are loaded.
ALLOWED_MB = 300

READ = """
    import resource, sys
    from types import SimpleNamespace
    from netdissect.concepts import ConceptData, Size
    from netdissect.errors import ConceptsError
    from netdissect.activations.image_batches import read_image
    said, before = "nothing", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        data = ConceptData.open(sys.argv[1])
        for row in range(len(data)):
            data.labels(row)
            read_image(data.image_path(row), SimpleNamespace(size=Size(24, 24), channels=3, interpolation="bilinear"))
    except ConceptsError as error:
        said = str(error)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, said)
"""


@pytest.fixture
def broden(tmp_path: Path) -> Path:
    return strategies.write_broden(tmp_path / "broden", images(count=3), COVERAGE, image=(SIDE, SIDE))


def read(root: Path) -> str:
    """Read everything in a process of its own; returns what it said, and checks how much memory it took."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(READ), str(root)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    megabytes, _, said = done.stdout.partition(" ")
    assert int(megabytes) < ALLOWED_MB
    return said


def test_a_sound_data_set_is_read_within_the_same_bound(broden: Path) -> None:
    assert read(broden).strip() == "nothing"


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 1)])
def test_images_that_claim_to_be_huge_are_refused(broden: Path, size: tuple[int, int]) -> None:
    for path in (broden / "images").rglob("*"):
        if path.is_file():
            path.write_bytes(png_of(*size))
    said = read(broden)
    assert "cannot be" in said or "expected" in said.lower()


@pytest.mark.parametrize("table", ["index.csv", "label.csv", "category.csv", "c_object.csv"])
def test_a_table_of_a_million_columns_is_refused(broden: Path, table: str) -> None:
    (broden / table).write_bytes(b"a," * 1_000_000 + b"b\n" + b"1," * 1_000_000 + b"2\n")
    assert table in read(broden)


def test_an_index_with_one_endless_cell_is_refused(broden: Path) -> None:
    with (broden / "index.csv").open("ab") as file:
        file.write(b'"' + b"x" * 30_000_000)
    assert "index.csv" in read(broden)


def test_a_link_to_a_file_that_is_no_image_says_so_and_nothing_of_its_content(broden: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the secret words")
    path = sorted(path for path in (broden / "images").rglob("*") if path.is_file())[0]
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    said = read(broden)
    assert path.name in said
    assert "secret words" not in said
