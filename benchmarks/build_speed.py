"""Build a data set from real images: images a second, and where the time goes.

    python benchmarks/build_speed.py masks:DIR folders:DIR=texture [--colors]

The rate is that of all cores; the shares are those of one process under a profiler: Pillow (decoding, encoding,
resizing), files, NumPy, and the rest, which is this project's own Python.
"""

import argparse
import cProfile
import os
import pstats
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import parse_source

PILLOW = ("/PIL/", "Imaging", "ImagingCore", "'decode'", "'encode'")
FILES = ("io.open", "'write'", "'read'", "posix.", "_io.", "/pathlib.py", "/shutil.py")


def owner(key: tuple[str, int, str]) -> str:
    file, _, function = key
    name = f"{file} {function}"
    if any(word in name for word in PILLOW):
        return "Pillow"
    if any(word in name for word in FILES):
        return "files"
    if "numpy" in name or "ufunc" in name:
        return "NumPy"
    return "own Python" if "/netdissect/" in file else "other"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--colors", action="store_true")
    told = parser.parse_args()
    options = WriteOptions(size=told.size, colors=told.colors)
    sources = [parse_source(text) for text in told.sources]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        out = build_dataset(Path(folder) / "all", sources, options, workers=os.cpu_count())
        took = time.perf_counter() - begun
        facts = inspect_dataset(out)
        print(f"{facts.images} images, {len(facts.concepts)} concepts, {len(facts.problems)} problems")
        print(f"{took:.1f} s with {os.cpu_count()} processes: {facts.images / took:.0f} images a second")
        profile = cProfile.Profile()
        begun = time.perf_counter()
        profile.runcall(build_dataset, Path(folder) / "one", sources, options)
        print(f"{time.perf_counter() - begun:.1f} s with one process under the profiler")
    shares: dict[str, float] = defaultdict(float)
    for key, (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        shares[owner(key)] += own
    for name, seconds in sorted(shares.items(), key=lambda pair: -pair[1]):
        print(f"{name:12} {seconds:6.2f} s {seconds / sum(shares.values()):6.1%}")
    pstats.Stats(profile).sort_stats("tottime").print_stats(14)


if __name__ == "__main__":
    main()
