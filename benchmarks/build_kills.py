"""Kill a build with SIGKILL at random moments, resume it, and compare the result with an unbroken build, byte for byte.

    python benchmarks/build_kills.py --kills 10 masks:DIR folders:DIR=texture

Prints the moment of each kill, how far the build had come, and whether the data sets are equal.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BUILD = """
import json, sys
from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.sources import parse_source
if __name__ == "__main__":
    out, sources, options, workers = json.loads(sys.argv[1])
    build_dataset(out, [parse_source(s) for s in sources], WriteOptions(**options), workers=workers)
"""


def start(out: Path, sources: list[str], options: dict[str, object], workers: int) -> subprocess.Popen[bytes]:
    script = out.with_name("build_once.py")  # fresh interpreters import the script anew: it must be a file
    script.write_text(BUILD)
    job = json.dumps([str(out), sources, options, workers])
    return subprocess.Popen([sys.executable, str(script), job])


def finished(out: Path) -> int:
    journal = out.with_name(f".{out.name}.building") / "journal.jsonl"
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.is_file() else 0


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def kill_and_resume(
    folder: Path, sources: list[str], options: dict[str, object], *, kills: int, seed: int, workers: int = 2
) -> list[tuple[float, int]]:
    """Return the moment of each kill in seconds and the images finished then; exit if the results differ."""
    whole, broken = folder / "whole", folder / "broken"
    if start(whole, sources, options, workers).wait() != 0:
        raise SystemExit("the unbroken build failed")
    images = json.loads((whole / "build.json").read_text())["images"]
    rng = random.Random(seed)  # noqa: S311 - moments of kills, no secret
    late = max(1, kills // 4)  # kills while label maps are numbered and tables written
    targets = sorted(rng.sample(range(1, images), kills - late)) + [images] * late
    moments = []
    for target in targets:
        process = start(broken, sources, options, workers)
        begun = time.monotonic()
        while finished(broken) < target and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02 if target < images else 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        moments.append((time.monotonic() - begun, finished(broken)))
        if broken.exists():
            shutil.rmtree(broken)  # it was done before the kill: begin anew
    if start(broken, sources, options, workers).wait() != 0:
        raise SystemExit("the resumed build failed")
    if contents(whole) != contents(broken):
        raise SystemExit("the resumed build differs from the unbroken one")
    if list(folder.glob(".*")):
        raise SystemExit("something was left behind")
    return moments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    told = parser.parse_args()
    options = {"size": told.size, "colors": True, "min_images": 2}
    with tempfile.TemporaryDirectory() as folder:
        moments = kill_and_resume(
            Path(folder), told.sources, options, kills=told.kills, seed=told.seed, workers=told.workers
        )
    for moment, images in moments:
        print(f"killed after {moment:6.2f} s with {images} images in the journal")
    print(f"{told.kills} kills: the resumed data set equals the unbroken one, byte for byte")


if __name__ == "__main__":
    main()
