"""Coverage-guided fuzzing of the parsers, where the package atheris installs.

    pip install atheris
    python tests/fuzz/coverage_guided.py TARGET -max_total_time=600

TARGET is one of sources, requirements, published, index, run. A crash is any error that is not netdissect's own; the
input that led to it is written to a file beside.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["netdissect"]):
    from netdissect.concepts import ConceptData
    from netdissect.concepts.sources import parse_source
    from netdissect.errors import NetdissectError
    from netdissect.result import load_result, parse_requirement, read_published

import strategies
from networks import COVERAGE, images

FOLDER = Path(tempfile.mkdtemp(prefix="atheris-"))


def sources(data: bytes) -> None:
    """Words that name a source."""
    parse_source(data.decode(errors="replace"))


def requirements(data: bytes) -> None:
    """Requirements on a run."""
    parse_requirement(data.decode(errors="replace"))


def published(data: bytes) -> None:
    """A published table of units."""
    (FOLDER / "table.csv").write_bytes(data)
    read_published(FOLDER / "table.csv")


def index(data: bytes) -> None:
    """The index of a data set."""
    root = FOLDER / "data"
    if not root.exists():
        strategies.write_broden(root, images(count=2), COVERAGE, image=(24, 24))
    (root / "index.csv").write_bytes(b"image,split,ih,iw,sh,sw,object,part,color\n" + data)
    opened = ConceptData.open(root)
    for row in range(len(opened)):
        opened.labels(row)


def run(data: bytes) -> None:
    """The description of a run."""
    (FOLDER / "run.json").write_bytes(data)
    load_result(FOLDER)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (sources, requirements, published, index, run)
}


def main() -> None:
    """Fuzz one target."""
    target = TARGETS[sys.argv.pop(1)]

    def one(data: bytes) -> None:
        try:
            target(data)
        except NetdissectError:
            return

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
