"""Data sets with more images: every image several times over, each time in a file of its own."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copy, copytree


def enlarged(data: Path, times: int, folder: Path) -> Path:
    """Return a data set that holds every image several times over, each time in files of their own."""
    if times == 1:
        return data
    larger = folder.resolve() / f"{data.name}-times-{times}"
    if (larger / "index.csv").exists():
        return larger
    larger.mkdir(exist_ok=True)
    for table in data.glob("*.csv"):
        copy(table, larger)
    for number in range(times):
        copytree(data / "images", larger / "images" / str(number), dirs_exist_ok=True)
    (larger / "index.csv").unlink()
    header, *rows = (data / "index.csv").read_text(encoding="utf-8").splitlines()
    lines = (",".join(_moved(row, number)) for number in range(times) for row in rows)
    (larger / "index.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return larger


def _moved(row: str, number: int) -> Iterator[str]:
    """Name the files of a row in the folder of their copies."""
    for column, cell in enumerate(row.split(",")):
        is_file = column == 0 or cell.endswith((".png", ".jpg"))
        yield ";".join(f"{number}/{part}" if "." in part else part for part in cell.split(";")) if is_file else cell
