"""Faults put in from outside: files flipped, cut and emptied, one after the other, and what the commands make of it.

    python tests/faults/outside.py --places 8            # every file in eight places; --json, --only KIND, --seed N

Nothing of the program's own ideas of damage is used: the truth are the bytes that commands print and write when all is
well. A fault is **held** if the commands end with an error of the program (exit code 1 or 2, no traceback), or if what
they print and write is the truth; **silent** if one says that all is well and something else comes out, or if `verify`
does not see that a file is another; a **crash** otherwise. Children are forked from a process that has loaded the
program; checkpoints are written at every batch.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from netdissect.cli import main
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.explorer import create_app, guarded

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from faults.children import PAUSE, ended, load_loops, note_loops, show_stacks_on_request  # noqa: E402  the folder of tests comes first

FACTORY = """
import torch
from netdissect import Preprocessing

def small():
    layers = [torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 5, 3), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers), Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3)
"""
NETWORK = "python:outside_factory:small"
OF_TIMES = {"run.json", "log.jsonl", "config.json", "holder.json", "lock"}  # differ from run to run
LOGS = {"log.jsonl", "holder.json", "lock", "README.txt"}  # nothing is made of them
LONGEST = 120.0  # seconds


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, what it printed and what it said."""

    code: int
    printed: str
    said: str

    @property
    def refused(self) -> bool:
        """Whether the program said what is wrong."""
        return self.code in (1, 2) and "Traceback" not in self.said


def command(*words: object, kill_after: float | None = None, loops: Path | None = None) -> Ended:
    """Run a command in a forked child: to its end, or for some seconds at most; note in a file the loops it loads."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            status = 70
            try:
                status = _carry_out(words, out.fileno(), err.fileno())
                if loops is not None:
                    note_loops(loops)
            finally:
                os._exit(status)
        code = ended(child, LONGEST) if kill_after is None else _killed(child, kill_after)
        for file in (out, err):
            file.seek(0)
        printed, said = out.read(), err.read()
    if code is None:
        print(f"{words} hung: {said}", file=sys.stderr, flush=True)  # noqa: T201
        code = -signal.SIGKILL
    return Ended(code, printed, said)


def _killed(child: int, after: float) -> int:
    """Kill a process after some seconds if it has not ended by then; return its exit code."""
    limit = time.monotonic() + after
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(PAUSE)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _carry_out(words: tuple[object, ...], out: int, err: int) -> int:
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    show_stacks_on_request(sys.stderr)
    sys.argv = ["netdissect", *map(str, words)]
    code = 70
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:  # what a user would see as a traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code


class World:
    """A data set, a run of it, unfinished ones, shards, a cache and an unfinished build, with the truth about each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "outside_factory.py").write_text(FACTORY)
        sys.path.insert(0, str(root))
        draw(root / "labeled")
        self.build = ("concepts", "build", f"masks:{root / 'labeled'}", "--size", 32, "--workers", 1)
        self.must(*self.build, "--out", root / "data")
        self.must(*self.run("run"))
        self.tables = tables(root / "run")
        self.keep("run", "data", "cache")
        self.printed = {
            words: self.must(*words, root / "run").printed for words in ((("count", "--json"), ("verify",)))
        }

    def run(self, name: str, *further: object, cached: bool = True) -> tuple[object, ...]:
        """Return the command of a run into a folder."""
        return ("run", NETWORK, "--concepts", self.root / "data", "--layer", "1", "--layer", "3", "--quantile", 0.05,
                "--batch-size", 4, "--bootstrap", 20, "--threads", 1, "--cache-folder",
                self.root / "cache" if cached else "none", "--out", self.root / name, *further)  # fmt: skip

    def must(self, *words: object) -> Ended:
        """Run a command that must succeed."""
        loops = self.root / "loops"
        ended = command(*words, loops=loops)
        if ended.code:
            raise SystemExit(f"{words} ended with {ended.code}: {ended.said}")
        load_loops(loops)
        return ended

    def copy(self, *names: str) -> None:
        """Take what was kept of some folders in place of them."""
        for name in names:
            shutil.rmtree(self.root / name, ignore_errors=True)
            shutil.copytree(self.root / "kept" / name, self.root / name)

    def keep(self, *names: str) -> None:
        """Keep some folders as they are."""
        for name in names:
            shutil.rmtree(self.root / "kept" / name, ignore_errors=True)
            shutil.copytree(self.root / name, self.root / "kept" / name)


def draw(folder: Path) -> None:
    """Draw 24 images of noise with a bright square, and their masks."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    (folder / "classes.csv").write_text("value,name\n0,\n1,wall\n2,square\n3,floor\n")
    for number in range(24):
        image, mask = rng.integers(0, 120, (48, 48, 3), dtype=np.uint8), np.ones((48, 48), np.uint8)
        top, left = rng.integers(0, 30, 2)
        image[top : top + 14, left : left + 14, number % 3] = 250
        mask[top : top + 14, left : left + 14], mask[40:] = 2, 3
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")


def tables(run: Path) -> dict[str, bytes]:
    """Return the bytes of all that a run found."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name not in OF_TIMES)
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted(files)}


def wounds(content: bytes, places: int, dice: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield a file with single bits flipped, cut short, and emptied."""
    for _ in range(places):
        place = dice.randrange(len(content))
        changed = bytearray(content)
        changed[place] ^= 1 << dice.randrange(8)
        yield f"flipped at {place}", bytes(changed)
    digits = [place for place, byte in enumerate(content[:20_000]) if 48 <= byte < 57]
    if digits and not content.startswith((b"\x89PNG", b"\xff\xd8", b"PK", b"PAR1", b"\x93NUMPY")):
        for place in dice.sample(digits, min(places, len(digits))):  # what a person would not see
            yield f"digit changed at {place}", content[:place] + bytes([content[place] + 1]) + content[place + 1 :]
    for place in (dice.randrange(len(content)), len(content) - 1):
        yield f"cut at {place}", content[:place]
    yield "emptied", b""


Judge = Callable[[World, Path], str]
"""Says of a fault in a file: held, silent or crash."""


def judge_run(world: World, file: Path) -> str:
    verified = command("verify", world.root / "run")
    counted = command("count", "--json", world.root / "run")
    if not (verified.refused or verified.code == 0) or not (counted.refused or counted.code == 0):
        return "crash"
    if counted.code == 0 and counted.printed != world.printed["count", "--json"]:
        return "silent"
    return "silent" if verified.code == 0 and file.name not in LOGS and not is_same_run(world, file) else "held"


def is_same_run(world: World, file: Path) -> bool:
    """Tell whether a JSON file is only spelled in another way, such as with another blank."""
    if file.suffix != ".json":
        return False
    whole = world.root / "kept" / file.relative_to(world.root)
    try:
        return bool(json.loads(file.read_bytes()) == json.loads(whole.read_bytes()))
    except ValueError:
        return False


def judge_resumed(world: World, _file: Path) -> str:
    return _judged(world, command(*world.run("broken")), "broken")


def judge_data(world: World, file: Path) -> str:
    verified = command("verify", world.root / "run", "--data")
    if verified.code == 0:  # no run reads this: another one finds the same
        return judge_cached(world, file)
    return judge_resumed(world, file) if verified.refused else "crash"


def judge_cached(world: World, _file: Path) -> str:
    shutil.rmtree(world.root / "again", ignore_errors=True)
    return _judged(world, command(*world.run("again")), "again")


def judge_shards(world: World, _file: Path) -> str:
    run = world.root / "parts"
    for words in (
        ("merge-shards", run),
        *(world.run("parts", "--shard", f"{n}/2") for n in (1, 2)),
        ("merge-shards", run),
    ):
        ended = command(*words)
        if ended.code:
            return "held" if ended.refused else "crash"
    return "held" if tables(run) == world.tables else "silent"


def judge_build(world: World, _file: Path) -> str:
    ended = command(*world.build, "--out", world.root / "beside" / "data")
    if ended.code:
        return "held" if ended.refused else "crash"
    return "held" if tables(world.root / "beside" / "data") == tables(world.root / "data") else "silent"


def _judged(world: World, ended: Ended, name: str) -> str:
    if ended.code:
        return "held" if ended.refused else "crash"
    return "held" if tables(world.root / name) == world.tables else "silent"


def make_broken(world: World, dice: random.Random, until: str) -> None:
    """Kill a run when a file of its work is there."""
    begin = time.monotonic()
    world.must(*world.run("timed", cached=False))
    longest = time.monotonic() - begin
    seconds = 0.3 * longest
    for _ in range(80):
        shutil.rmtree(world.root / "broken", ignore_errors=True)
        command(*world.run("broken", cached=False), kill_after=seconds)
        if (world.root / "broken" / "work" / until).exists() and not (world.root / "broken" / "run.json").exists():
            world.keep("broken")
            return
        is_through = (world.root / "broken" / "run.json").exists()
        seconds = dice.uniform(0.2, 1.0) * longest if is_through else seconds * 1.15
    raise SystemExit(f"no run could be killed with {until}")


def make_parts(world: World) -> None:
    """Look once at both halves."""
    for number in (1, 2):
        world.must(*world.run("parts", "--shard", f"{number}/2"))
    world.keep("parts")


def make_build(world: World) -> None:
    """Kill a build when some of its journal is written."""
    seconds, out = 0.2, world.root / "beside" / "data"
    for _ in range(60):
        shutil.rmtree(world.root / "beside", ignore_errors=True)
        command(*world.build, "--out", out, kill_after=seconds)
        journal = world.root / "beside" / ".data.building" / "journal.jsonl"
        if journal.exists() and journal.read_bytes().count(b"\n") > 5 and not out.exists():
            world.keep("beside")
            return
        seconds = seconds * 1.2 if not out.exists() else 0.15
    raise SystemExit("no build could be killed")


def kinds(world: World, dice: random.Random) -> dict[str, tuple[Callable[[], None], tuple[str, ...], str, Judge]]:
    """Return what is broken: how it is made, what is taken anew each time, where its files are, and who judges."""
    nothing = lambda: None  # noqa: E731
    return {
        "finished run": (nothing, ("run",), "run", judge_run),
        "unfinished run, first pass": (
            lambda: make_broken(world, dice, "thresholds.npz"), ("broken",), "broken/work", judge_resumed,
        ),
        "unfinished run, second pass": (
            lambda: make_broken(world, dice, "counting.npz"), ("broken",), "broken/work", judge_resumed,
        ),
        "data set": (lambda: make_broken(world, dice, "counting.npz"), ("run", "data", "broken"), "data", judge_data),
        "cache": (nothing, ("cache",), "cache", judge_cached),
        "shards": (lambda: make_parts(world), ("parts",), "parts/shards", judge_shards),
        "unfinished build": (lambda: make_build(world), ("beside",), "beside/.data.building", judge_build),
    }  # fmt: skip


def break_files(world: World, dice: random.Random, places: int, only: str) -> Iterator[tuple[str, str, str]]:
    """Break every file of every kind; yield the kind, what was done, and what became of it."""
    for kind, (make, names, place, judge) in kinds(world, dice).items():
        if not kind.startswith(only):
            continue
        make()
        files = sorted(path for path in (world.root / place).rglob("*") if path.is_file() and path.stat().st_size)
        if kind in ("data set", "unfinished build"):  # many of a sort
            files = [path for path in files if path.suffix in (".csv", ".jsonl", ".json")] + dice.sample(files, 6)
        for file in files:
            whole = (world.root / "kept" / file.relative_to(world.root)).read_bytes()
            for what, content in wounds(whole, places, dice):
                if content == whole:
                    continue
                world.copy(*names)
                facts = file.stat()
                file.write_bytes(content)
                os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # as rsync, tar or cp -p leave it
                yield kind, f"{file.relative_to(world.root)} {what}", judge(world, file)
        world.copy(*names)


HOSTILE = (
    "", "0", "-1", "1", "9" * 20, "nan", "inf", "1e400", "\x00", "../../etc/passwd", "%2e%2e%2f", "a" * 5000,
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "<script>", "' OR 1=1", "null", "true", "0.5",
)  # fmt: skip
BODIES = (
    "", "{", "null", "[]", "NaN", "1e400", '"\\ud800"', "{}", "[" * 100_000,
    '{"run": "run", "layer": NaN, "rater": "me", "item": 0}',
    '{"run": "run", "layer": 0, "rater": "\\ud800", "item": 1e400, "rating": "yes"}',
    '{"run": "run", "layer": 0, "rater": "me", "item": 0, "rating": "yes"}',
    '{"left": "run", "right": "run", "left_layer": Infinity}',
)  # fmt: skip


def ask(world: World, dice: random.Random, requests: int) -> Iterator[tuple[str, str, str]]:
    """Send questions to a server that no page would ask; none may be answered by 5xx, but for one that is busy."""
    app = create_app([world.root / "run"], ratings=world.root / "ratings.sqlite")
    with TestClient(guarded(app), base_url="http://127.0.0.1:8461", raise_server_exceptions=False) as client:
        paths = client.get("/openapi.json").json()["paths"]
        told = [(method, path, facts[method]) for path, facts in paths.items() for method in facts]
        for _ in range(requests):
            method, path, facts = dice.choice(told)
            values = {}
            for one in facts.get("parameters", ()):
                value = "run" if one["name"] == "run" and dice.random() < 0.7 else dice.choice(HOSTILE)
                if one["in"] == "path":
                    path = path.replace("{" + one["name"] + "}", urllib.parse.quote(value, safe=""))
                elif dice.random() < 0.6:
                    values[one["name"]] = value
            body = dice.choice(BODIES) if method == "post" else None
            answer = client.request(
                method, path, params=values, content=body, headers={"content-type": "application/json"}
            )
            held = answer.status_code < 500 or answer.status_code == 503
            yield (
                "requests",
                f"{method} {path[:60]} {values} {(body or '')[:60]}: {answer.status_code}",
                "held" if held else "crash",
            )


def main_of_faults() -> int:
    """Run all and print how many of each kind were tried, held, silent and crashed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=4)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    dice = random.Random(asked.seed)  # noqa: S311
    made = WorkDir.__init__

    def often(self: WorkDir, *arguments: object, **options: object) -> None:
        made(self, *arguments, **options)  # type: ignore[arg-type]
        self._every = self._pause = 0.0

    WorkDir.__init__ = often  # type: ignore[method-assign]
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="outside-") as folder:
        world = World(Path(folder))
        faults = [break_files(world, dice, asked.places, asked.only)]
        if "requests".startswith(asked.only):
            faults.append(ask(world, dice, asked.requests))
        for found in faults:
            for kind, what, outcome in found:
                counts.setdefault(kind, Counter())[outcome] += 1
                if outcome != "held":
                    print(f"{outcome}: {kind}: {what}", file=sys.stderr, flush=True)  # noqa: T201
    table = {
        kind: {"tried": sum(each.values()), **{name: each[name] for name in ("held", "silent", "crash")}}
        for kind, each in counts.items()
    }
    if asked.json:
        print(json.dumps(table, indent=2))  # noqa: T201
    else:
        for kind, row in table.items():
            print(f"{kind:30}" + "".join(f"{name} {number:5}  " for name, number in row.items()))  # noqa: T201
    return int(any(row["silent"] or row["crash"] for row in table.values()))


if __name__ == "__main__":
    sys.exit(main_of_faults())
