r"""Whether two source trees give the same values: everything that their runs leave, compared bit for bit under renames.

    python benchmarks/same_values.py OLD NEW --map MAP.json --data BRODEN --out OLD_RUNS NEW_RUNS

OLD and NEW are source trees; each runs the commands of the map with its own ``src`` in its folder of runs. A command
that is done there, word for word, is not run again. Then every file of the two folders is compared: tables (parquet,
CSV) column by column, arrays (npy, npz, safetensors) and images (PNG, JPEG, WebP) array by array, JSON value by value.
Types count, as do the order of rows and the sign of zero. Exit code 1 if anything differs or is on one side only.

The map is a JSON object; every part but ``commands`` may be left out::

    {"commands": {"demo": ["netdissect demo --out demo", "netdissect demo --out demo"],
                  "worked": ["python -m pytest {tree}/tests/a.py", "python -m pytest {tree}/tests/b.py"]},
     "prepared": {"paper/precision.json": "\"float32\""},
     "files":    {"evidence": "statistics", "places.parquet": "firing_map.parquet"},
     "columns":  {"number": "label_id", "*/evidence/units.parquet:low": "iou_ci_low"},
     "keys":     {"config.evidence.chance": "config.statistics.permutations", "limit": "max_images"},
     "values":   {"not established": "inconclusive"},
     "gone":     ["config.json:execution.engine"],
     "added":    ["*:stats_seed", "*/extra.parquet"]}

``commands``
    For each name the command of the old side and of the new one; ``{data}`` and ``{tree}`` are filled in. A command
    that fails ends the comparison: tests of golden values are such commands.
``prepared``
    Files with their text, written on both sides before the first command: what a run would measure for itself.
``files``
    Parts of a path between slashes, or whole relative paths.
``columns``
    Of tables and archives of arrays, in all files or in those that match a pattern.
``keys``
    Of JSON objects, or dotted paths, of which the longest that begins an address counts.
``values``
    Whole strings, in cells and in JSON.
``gone``, ``added``
    Patterns of what has no counterpart, under the new side's names: files, or ``FILE:NAME`` for columns and keys.

Not compared: see `FILES` (logs, times, pages, figures, locks) and `KEYS` (times, versions, digests of code or of
names). Of an absolute path only the last part is compared, of a text of several words only the numbers, in their order.
"""

import argparse
import csv
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import safetensors
import torch
from PIL import Image

FILES = (
    "commands.json", "*seconds.json", "*.jsonl", "*.html", "*.css", "*.js", "*.svg", "*.pdf", "*.txt", "*figure.png",
    "*figures/*.png", "*report/*", "*/lock", "*/.writing/*",
)  # fmt: skip
KEYS = {
    "created", "started", "seconds", "time", "host", "pid",  # when, on which machine, how fast
    "version", "versions", "netdissect", "commit",  # of the code
    "digest", "digests", "files", "stamp", "checksum",  # of code, or of tables whose columns have names
}  # fmt: skip
SHOWN = 20


class Part(NamedTuple):
    """One column, array or JSON value: how many values, and what has to be equal."""

    count: int
    content: object


Parts = dict[str, Part]


@dataclass(frozen=True)
class Names:
    """What the old side's names are on the new side; without any map they stay."""

    files: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    def file(self, path: str) -> str:
        """Rename a relative path."""
        if path in self.files:
            return self.files[path]
        return "/".join(self.files.get(part, part) for part in path.split("/"))

    def column(self, path: str, name: str) -> str:
        """Rename a column of a file."""
        scoped = {key.rpartition(":")[2]: new for key, new in self.columns.items()
                  if ":" in key and fnmatch(path, key.rpartition(":")[0])}  # fmt: skip
        return scoped.get(name, self.columns.get(name, name))

    def key(self, address: tuple[str, ...]) -> str:
        """Rename an address in a JSON file."""
        for length in range(len(address), 0, -1):
            begin = ".".join(address[:length])
            if begin in self.keys:
                return ".".join([self.keys[begin], *(self.keys.get(part, part) for part in address[length:])])
        return ".".join(self.keys.get(part, part) for part in address)

    def text(self, text: str) -> object:
        """Spell a word as the new side does; of a path take the last part, of a sentence the numbers."""
        text = self.values.get(text, text)
        if text.startswith("/"):
            return text.rpartition("/")[2]
        return tuple(re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", text)) if " " in text.strip() else text


# What a file holds ----------------------------------------------------------------------------------------------------


def parts_of(path: Path, relative: str, names: Names) -> Parts:
    """Read a file as columns, arrays or values, under the names of the new side."""
    kind = path.suffix
    if kind == ".parquet":
        frame = pl.read_parquet(path)
        return {names.column(relative, series.name): _column(series, names) for series in frame}
    if kind == ".csv":
        return _csv(path, relative, names)
    if kind in (".npy", ".npz"):
        loaded = np.load(path, allow_pickle=False)
        arrays = {"array": loaded} if kind == ".npy" else dict(loaded)
        return {names.column(relative, name): _array(array) for name, array in arrays.items()}
    if kind == ".safetensors":
        return _safetensors(path, names)
    if kind in (".png", ".jpg", ".jpeg", ".webp"):
        with Image.open(path) as image:
            return {"pixels": Part(image.width * image.height, (image.mode, image.size, image.tobytes()))}
    if kind == ".json":
        return dict(_values(json.loads(path.read_text()), (), names))
    return {"bytes": Part(path.stat().st_size, path.read_bytes())}


def _array(array: np.ndarray) -> Part:
    return Part(array.size, (array.dtype.str, array.shape, array.tobytes()))


def _column(series: pl.Series, names: Names) -> Part:
    if series.dtype in (pl.Categorical, pl.Enum):
        series = series.cast(pl.String)
    kind, missing = str(series.dtype), series.is_null().to_numpy().tobytes()
    if series.dtype == pl.String:
        return Part(len(series), (kind, [text and names.text(text) for text in series]))
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        filler: Any = False if series.dtype == pl.Boolean else 0
        return Part(len(series), (kind, missing, series.fill_null(filler).to_numpy().tobytes()))
    return Part(len(series), (kind, repr(series.to_list())))


def _csv(path: Path, relative: str, names: Names) -> Parts:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file) or [[]]
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return {
        names.column(relative, name): Part(len(cells), [names.text(cell) for cell in cells])
        for name, cells in zip(header, columns, strict=True)
    }


def _safetensors(path: Path, names: Names) -> Parts:
    parts: Parts = {}
    with safetensors.safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            tensor = file.get_tensor(name).contiguous()
            data = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
            parts[name] = Part(tensor.numel(), (str(tensor.dtype), tuple(tensor.shape), data))
        for name, text in (file.metadata() or {}).items():
            try:
                value = json.loads(text)
            except json.JSONDecodeError:
                value = text
            parts |= dict(_values(value, (name,), names))
    return parts


def _values(value: object, address: tuple[str, ...], names: Names) -> Iterator[tuple[str, Part]]:
    if address and address[-1] in KEYS:
        return
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from _values(one, (*address, key), names)
    elif isinstance(value, list) and value:
        for index, one in enumerate(value):
            yield from _values(one, (*address, str(index)), names)
    else:
        content = names.text(value) if isinstance(value, str) else repr(value)
        yield names.key(address), Part(1, content)


# Two sides ------------------------------------------------------------------------------------------------------------


def files_of(folder: Path, names: Names) -> dict[str, tuple[Path, str]]:
    """All files that are compared, by the new side's relative path: where it lies, and its own relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and not any(fnmatch(relative, pattern) for pattern in FILES):
            found[names.file(relative)] = (path, relative)
    return found


def lonely(old: Iterable[str], new: Iterable[str], mapping: Mapping[str, Any], begin: str = "") -> list[str]:
    """Say which names are on one side only, those left out of which the map says so."""
    lines = []
    for side, names, known in (("old", set(old) - set(new), "gone"), ("new", set(new) - set(old), "added")):
        patterns = mapping.get(known, ())
        left = [name for name in sorted(names) if not any(fnmatch(begin + name, pattern) for pattern in patterns)]
        lines += [f"{begin}{name}: only on the {side} side" for name in left]
    return lines


def unequal_parts(old: Parts, new: Parts) -> Iterator[str]:
    """Yield which parts of two files differ."""
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            sides = [str(part.content) for part in (old[name], new[name])]
            told = (
                " and ".join(sides) if max(map(len, sides)) < 80 else f"{old[name].count} and {new[name].count} values"
            )
            yield f"{name}: {told}"


def artifact_of(path: str) -> str:
    """Name all files that differ in digits alone."""
    return re.sub(r"\d+", "N", path)


def compare(old: Path, new: Path, mapping: Mapping[str, Any]) -> int:
    """Print what was compared, files whose names differ in digits alone in one line; return how many are unequal."""
    names = Names(*(mapping.get(name, {}) for name in ("files", "columns", "keys", "values")))
    left, right = files_of(old, names), files_of(new, Names())
    files, values, unequal = Counter[str](), Counter[str](), Counter[str]()
    lines = lonely(left, right, mapping)
    for line in lines:
        unequal[artifact_of(line.partition(":")[0])] += 1
    for path in sorted(left.keys() & right.keys()):
        (one, relative), (other, _) = left[path], right[path]
        parts, others = parts_of(one, relative, names), parts_of(other, path, Names())
        found = lonely(parts, others, mapping, f"{path}:")
        found += [f"{path}:{line}" for line in unequal_parts(parts, others)]
        artifact = artifact_of(path)
        files[artifact] += 1
        values[artifact] += sum(part.count for part in parts.values())
        unequal[artifact] += bool(found)
        lines += found
    artifacts = sorted(files.keys() | unequal.keys())
    width = max((len(artifact) for artifact in artifacts), default=8)
    print(f"{'artifact':{width}}  files       values")
    for artifact in artifacts:
        result = f"{unequal[artifact]} UNEQUAL" if unequal[artifact] else "equal"
        print(f"{artifact:{width}}  {files[artifact]:5}  {values[artifact]:11,}  {result}")
    print(f"{files.total():,} files, {values.total():,} values, {unequal.total()} files unequal")
    print(*lines[:SHOWN], sep="\n")
    if len(lines) > SHOWN:
        print(f"... and {len(lines) - SHOWN} more differences")
    return unequal.total()


def run(tree: Path, commands: Mapping[str, str], data: str, out: Path, prepared: Mapping[str, str]) -> None:
    """Run a side's commands that are not done yet, one after the other."""
    out.mkdir(parents=True, exist_ok=True)
    record = out / "commands.json"
    done = json.loads(record.read_text()) if record.exists() else {}
    for path, text in prepared.items():
        if not (out / path).exists():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_text(text)
    scripts = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["netdissect"].partition(":")
    programs = {
        "netdissect": [sys.executable, "-c", f"from {module} import {function}; {function}()"],
        "python": [sys.executable],
    }
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    for name, command in commands.items():
        if done.get(name) == command:
            continue
        program, *words = shlex.split(command)
        filled = [word.format(data=data, tree=tree) for word in words]
        print(f"{tree.name}: {command}", file=sys.stderr, flush=True)
        subprocess.run([*programs[program], *filled], cwd=out, env=environment, check=True, stdout=sys.stderr)
        done[name] = command
        record.write_text(json.dumps(done, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--map", type=Path, required=True)
    parser.add_argument("--data", required=True, help="data set in Broden's layout")
    parser.add_argument("--out", type=Path, nargs=2, required=True, metavar=("OLD_RUNS", "NEW_RUNS"))
    given = parser.parse_args()
    mapping = json.loads(given.map.read_text())
    outs = [out.resolve() for out in given.out]
    for side, tree in enumerate((given.old, given.new)):
        commands = {name: pair[side] for name, pair in mapping["commands"].items()}
        run(tree.resolve(), commands, str(Path(given.data).resolve()), outs[side], mapping.get("prepared", {}))
    sys.exit(1 if compare(*outs, mapping) else 0)


if __name__ == "__main__":
    main()
