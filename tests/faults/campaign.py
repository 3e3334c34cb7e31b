"""Faults put into running dissections, and what became of them.

    python tests/faults/campaign.py --minutes 60      # the long form; --rounds 1: each kind a few times

Every round breaks a run in one way: killed, the disk full, files damaged, the data changed. A fault is survived if
the program said what is wrong, or went on, and nothing was lost; the run that follows must equal an unbroken one to
the last byte of every table. Prints a line for each kind, and as JSON with --json; ends with 1 if any fault was not
survived.

Children are forked from a process that has loaded everything but computed nothing: a round takes half a second.
"""

import argparse
import ctypes
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

import strategies  # noqa: E402  the folder of tests comes first
from faults.children import ended, load_loops, note_loops, show_stacks_on_request  # noqa: E402
from netdissect.concepts.build.build import build_dataset  # noqa: E402
from netdissect.concepts.build.write_options import WriteOptions  # noqa: E402
from netdissect.concepts.sources import parse_source  # noqa: E402
from netdissect.config import DissectConfig, Execution  # noqa: E402
from netdissect.dissect import dissect  # noqa: E402
from netdissect.dissect.verify import repair  # noqa: E402
from netdissect.errors import NetdissectError  # noqa: E402
from netdissect.result.files import corrupted_files  # noqa: E402
from networks import COVERAGE, SIDE, build, images  # noqa: E402

IMAGES = 48
SETTINGS = DissectConfig(
    layers=("wide_relu", "deep_relu", "fc"),
    batch_size=3,
    top_images=3,
    protocol=strategies.definition("paper", 0.05).protocol,
)
EXECUTION = Execution(checkpoint_seconds=0, workers=1)
REFUSED, CRASHED = 2, 3
Before = Callable[[], None]


class Lost(Exception):  # noqa: N818  what a fault must never lead to
    """A fault was not survived."""


def nothing() -> None:
    """Let the child run as it is."""


class Field:
    """A folder in which runs are broken.

    Parameters
    ----------
    folder
        Where.
    seed
        Of where and when faults strike.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  faults are no secret
        self.folder = folder
        self.data = strategies.write_broden(folder / "data", images(count=IMAGES), COVERAGE, image=(SIDE, SIDE))
        self.run = folder / "run"
        self.said, self.stacks = folder / "said.txt", folder / "stacks.txt"
        self._compile()
        self.clear()
        begin = time.monotonic()
        self.finish()
        self.seconds = time.monotonic() - begin
        self.wanted = self.tables()

    def start(self, before: Before = nothing, out: Path | None = None) -> int:
        """Fork a child that dissects, after `before`; returns its number."""

        def dissect_after() -> None:
            before()
            dissect(build(), self.data, config=SETTINGS, out=out or self.run, execution=EXECUTION)

        return self.fork(dissect_after)

    def fork(self, action: Callable[[], object]) -> int:
        """Fork a child that does something; returns its number."""
        self.said.write_text("")
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until the child is where it can take it
        child = os.fork()
        if child:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            return child
        code = CRASHED
        try:
            code = self._carry_out(action)
        finally:
            os._exit(code)  # a child must not return into the parent's code, which would clear the folder away

    def _carry_out(self, action: Callable[[], object]) -> int:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            show_stacks_on_request(self.stacks.open("w"))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            action()
        except (NetdissectError, MemoryError) as error:
            self.said.write_text(f"{type(error).__name__}: {error}")
            return REFUSED
        except BaseException as error:
            if "allocate memory" in str(error) or isinstance(error, KeyboardInterrupt):
                return REFUSED
            self.said.write_text(f"{type(error).__name__}: {error}")
            return CRASHED
        return 0

    def _compile(self) -> None:
        """Dissect once, and load the loops that this has compiled."""
        loops = self.folder / "loops"

        def dissect_and_note() -> None:
            dissect(build(), self.data, config=SETTINGS, out=self.run, execution=EXECUTION)
            note_loops(loops)

        if self.ended(self.fork(dissect_and_note)):
            raise Lost(f"the first run failed: {self.message()}")
        load_loops(loops)

    def ended(self, child: int) -> int:
        """Wait for a child; returns its exit code, or minus the signal that ended it."""
        code = ended(child)
        if code is None:
            raise Lost(f"a child hung, and was killed; its threads stood here:\n{self.stacks.read_text()}")
        return code

    def finish(self, before: Before = nothing, out: Path | None = None) -> int:
        """Dissect in a child to the end; returns its exit code, or minus the signal that ended it."""
        return self.ended(self.start(before, out))

    def tables(self) -> dict[str, str]:
        """Digests of every table of the finished run."""
        _, wrong = corrupted_files(self.run)
        if wrong:
            raise Lost(f"a finished run is damaged: {wrong}")
        return dict(json.loads((self.run / "run.json").read_text())["files"])

    def adapt(self, struck: bool) -> bool:
        """Strike earlier after a miss, and later again after a hit: how fast a run is depends on the machine's load."""
        self.seconds *= 1.05 if struck else 0.8
        return struck

    def clear(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.run, ignore_errors=True)

    def killed(self, after: float, how: signal.Signals = signal.SIGKILL) -> bool:
        """Start the run and kill it some seconds later; returns whether it was still running."""
        child = self.start()
        time.sleep(after)
        os.kill(child, how)
        return self.adapt(self.ended(child) != 0)

    def expect_equal(self) -> None:
        """Run again, without a fault: the result must be that of an unbroken run."""
        code = self.finish()
        if code:
            raise Lost(f"the run after the fault ended with {code}: {self.message()}")
        if self.tables() != self.wanted:
            raise Lost("the result differs from that of an unbroken run")

    def message(self) -> str:
        """What the last child said before it ended."""
        return self.said.read_text()

    def expect_refused(self, code: int, *named: str) -> None:
        """The child must have ended with an error of ours that names all of this."""
        if code != REFUSED or not all(name in self.message() for name in named):
            raise Lost(f"expected an error that names {named}; the child ended with {code}: {self.message()}")


def kill(field: Field) -> int:
    """Kill a run at any moment, again and again, until it is through."""
    struck = 0
    for _ in range(6):
        if field.killed(field.random.uniform(0.1, 0.7) * field.seconds):
            struck += 1
        elif struck:
            break
        else:
            field.clear()
    field.expect_equal()
    return struck


def interrupt(field: Field) -> int:
    """Press Ctrl-C."""
    struck = False
    for _ in range(8):
        struck = field.killed(field.random.uniform(0.1, 0.9) * field.seconds, signal.SIGINT)
        if struck:
            break
        field.clear()
    field.expect_equal()
    return int(struck)


def fill_disk(field: Field) -> int:
    """Let no file grow beyond some size."""
    limit = int(10 ** field.random.uniform(2, 5))

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    code = field.finish(before)
    if code:
        field.expect_refused(code)
    field.expect_equal()
    return 1 if code else 0


def _give_up_override() -> None:
    """Let file permissions hold for this process even if it belongs to root."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    none = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None).capset(header, none):
        raise Lost("capabilities cannot be given up")


def forbid_writing(field: Field) -> int:
    """Take the right to write into the run folder away."""
    field.run.mkdir()
    field.run.chmod(0o555)

    code = field.finish(_give_up_override)
    field.run.chmod(0o755)
    if code != REFUSED:
        raise Lost(f"a read-only folder ended with {code}: {field.message()}")
    field.expect_equal()
    return 1


def _wound(field: Field, path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = field.random.randrange(len(content))
    if field.random.random() < 0.5:
        content[place] ^= 1 << field.random.randrange(8)
        path.write_bytes(content)
    else:
        path.write_bytes(content[:place])


def damage_work(field: Field) -> int:
    """Flip a bit or cut a file of an unfinished run."""
    for _ in range(20):
        if field.killed(field.random.uniform(0.1, 0.9) * field.seconds) and (field.run / "work").is_dir():
            break
        field.clear()
    files = sorted(path for path in (field.run / "work").rglob("*") if path.is_file() and path.stat().st_size)
    if not files:
        field.expect_equal()
        return 0
    hit = field.random.choice(files)
    _wound(field, hit)
    for _ in range(4):
        code = field.finish()
        if code == 0:
            break
        field.expect_refused(code, str(field.run))
        _follow_advice(field)
    if field.tables() != field.wanted:
        raise Lost(f"{hit.name} was damaged, and the result differs")
    return 1


def _follow_advice(field: Field) -> None:
    """Remove what the message says: a file that it names, or the folder of unfinished work."""
    advice = field.message()
    for named in re.findall(r"(/\S+?)[,.:;]?(?=\s|$)", advice.partition("Remove")[2] or ""):
        path = Path(named)
        if path.is_relative_to(field.run):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            return
    if "Remove this file" in advice:
        first = re.search(r"(/\S+)", advice)
        if first and Path(first[1]).is_relative_to(field.run):
            Path(first[1]).unlink(missing_ok=True)
            return
    shutil.rmtree(field.run / "work", ignore_errors=True)


def damage_result(field: Field) -> int:
    """Flip a bit or cut a file of a finished run, and repair it."""
    field.expect_equal()
    name = field.random.choice(sorted(field.wanted))
    _wound(field, field.run / name)
    if list(corrupted_files(field.run)[1]) != [name]:
        raise Lost(f"damage to {name} went unseen")
    child = field.fork(lambda: repair(field.run, network=build()))
    if field.ended(child) or field.tables() != field.wanted:
        raise Lost(f"{name} was not repaired")
    return 1


def damage_description(field: Field) -> int:
    """Flip a bit or cut the description of a finished run, which holds the digests."""
    field.expect_equal()
    whole = (field.run / "run.json").read_bytes()
    _wound(field, field.run / "run.json")
    if (field.run / "run.json").read_bytes() == whole:
        return 0
    field.expect_refused(field.finish(), "run.json")
    field.clear()
    field.expect_equal()
    return 1


def move_clock(field: Field) -> int:
    """Turn the clock back or forth by days, for the program and for its files."""
    field.killed(field.random.uniform(0.2, 0.9) * field.seconds)
    shift = field.random.choice((-1, 1)) * field.random.randrange(1, 10) * 86_400
    for path in field.run.rglob("*"):
        os.utime(path, (time.time() + shift,) * 2)
    real = time.time

    def before() -> None:
        time.time = lambda: real() - shift

    if field.finish(before):
        raise Lost(f"a moved clock ended in {field.message()}")
    if field.tables() != field.wanted:
        raise Lost("a moved clock changed the result")
    return 1


def limit_memory(field: Field) -> int:
    """Let the program have little more memory than it has already."""
    extra = field.random.randrange(1, 60) << 20

    def before() -> None:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + extra,) * 2)

    code = field.finish(before)
    field.expect_equal()
    return int(code != 0)


def change_data(field: Field) -> int:
    """Rewrite an image while the run is under way."""
    image = field.random.choice(sorted(path for path in (field.data / "images").rglob("*") if path.is_file()))
    content, code = image.read_bytes(), 0
    for _ in range(6):
        field.clear()
        child = field.start()
        time.sleep(field.random.uniform(0.3, 0.9) * field.seconds)
        image.write_bytes(content)
        code = field.ended(child)
        if field.adapt(code != 0):
            field.expect_refused(code, "were changed while the run was under way")
            break
    field.expect_equal()
    return int(code != 0)


def run_twice(field: Field) -> int:
    """Start a second process on the same folder."""
    first = field.start()
    time.sleep(0.3 * field.seconds)
    code = field.finish()
    if field.ended(first) not in (0, REFUSED):
        raise Lost("the first of two processes broke")
    if code not in (0, REFUSED):
        raise Lost(f"the second of two processes ended with {code}: {field.message()}")
    field.expect_equal()
    return int(code == REFUSED)


def kill_loader(field: Field) -> int:
    """Kill one of the processes that build a data set."""
    source, out = field.folder / "labeled", field.folder / "built"
    if not source.exists():
        _draw_source(source)
    shutil.rmtree(out, ignore_errors=True)
    wanted = field.folder / "wanted"
    if not wanted.exists():
        build_dataset(wanted, [parse_source(f"masks:{source}")], WriteOptions(size=32), workers=1)
    child = field.fork(lambda: build_dataset(out, [parse_source(f"masks:{source}")], WriteOptions(size=32), workers=2))
    struck = _kill_a_grandchild(child, field.random.uniform(0, 0.3))
    code = field.ended(child)
    if code == CRASHED:
        raise Lost("a killed loader ended in a crash")
    if code:
        build_dataset(out, [parse_source(f"masks:{source}")], WriteOptions(size=32), workers=1)
    for path in wanted.rglob("*"):
        drawn = path.is_file() and path.suffix in (".csv", ".png", ".jpg")
        if drawn and (out / path.relative_to(wanted)).read_bytes() != path.read_bytes():
            raise Lost(f"{path.name} differs after a loader was killed")
    return int(struck)


def _draw_source(folder: Path) -> None:
    from concepts import test_build  # it needs pytest, which the other faults do not

    masks = {f"{index:03}": test_build.halves(1, 2, 64, 64) for index in range(120)}
    test_build.make_masks(folder, masks)


def _kill_a_grandchild(child: int, after: float) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            found = Path(f"/proc/{child}/task/{child}/children").read_text().split()
        except OSError:
            return False
        workers = [int(pid) for pid in found if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if workers:
            time.sleep(after)
            try:
                os.kill(workers[-1], signal.SIGKILL)
            except ProcessLookupError:
                return False
            return True
        time.sleep(0.01)
    return False


FAULTS: dict[str, Callable[[Field], int]] = {
    "killed (SIGKILL)": kill,
    "interrupted (SIGINT)": interrupt,
    "disk full": fill_disk,
    "folder read-only": forbid_writing,
    "unfinished run damaged": damage_work,
    "finished run damaged": damage_result,
    "run.json damaged": damage_description,
    "clock moved": move_clock,
    "memory limit": limit_memory,
    "data changed under way": change_data,
    "second process": run_twice,
    "loader process killed": kill_loader,
}


@contextmanager
def field_in_a_folder(seed: int) -> Iterator[Field]:
    """Prepare a field, and clear it away."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        yield Field(Path(folder), seed)


def campaign(field: Field, kinds: list[str], goes_on: Callable[[int], bool]) -> dict[str, Counter[str]]:
    """Inject every kind of fault in turn, round after round."""
    table: dict[str, Counter[str]] = {kind: Counter(injected=0, survived=0) for kind in kinds}
    done = 0
    while goes_on(done):
        for kind in kinds:
            field.clear()
            try:
                struck = FAULTS[kind](field)
                table[kind].update(injected=struck, survived=struck)
            except Lost as lost:
                table[kind].update(injected=1)
                print(f"LOST  {kind}: {lost}", file=sys.stderr, flush=True)  # noqa: T201
        done += 1
    return table


def main() -> int:
    """Run a campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=sorted(FAULTS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a process that has computed with several threads must not be forked
    end = time.monotonic() + 60 * options.minutes
    with field_in_a_folder(options.seed) as field:
        table = campaign(
            field,
            options.only or list(FAULTS),
            lambda done: time.monotonic() < end if options.minutes else done < options.rounds,
        )
    if options.json:
        print(json.dumps(table))  # noqa: T201
    else:
        for kind, counts in table.items():
            print(f"{kind:28} injected {counts['injected']:5}  survived {counts['survived']:5}")  # noqa: T201
    return int(any(counts["injected"] != counts["survived"] for counts in table.values()))


if __name__ == "__main__":
    sys.exit(main())
