"""Run the blocks of a page in order, in an empty folder, and compare what they print with what the page shows.

    python docs/run_page.py docs/journeys/PAGE.md            exits with 1 and a diff where they differ
    python docs/run_page.py docs/journeys/PAGE.md --write    puts what they print into the page

Blocks ``sh`` are run by bash, those of ``python`` one after the other in one interpreter, which shows the value of a
last expression as a notebook does. A block whose first line is ``# file: NAME`` becomes that file. The block ``text``
after a block is what it prints. Numbers are not compared: they differ in the last digits from processor to processor.
"""

import argparse
import ast
import contextlib
import difflib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```(?P<language>sh|python)\n(?P<code>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?", re.M | re.S)
FILE = re.compile(r"# file: (\S+)\n")
BAR = re.compile(r"^.*\u2501.*\n", re.M)
NUMBER = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?")


def run_page(page: Path) -> Iterator[tuple[re.Match[str], str]]:
    """Run each block of a page and yield it with what it prints.

    Raises
    ------
    RuntimeError
        If a command fails of which the page shows no output.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        code = block["code"]
        if file := FILE.match(code):
            Path(file[1]).write_text(code[file.end() :], encoding="utf-8")
            continue
        status, printed = run_shell(code) if block["language"] == "sh" else (0, run_python(code, names))
        if status and block["shown"] is None:
            raise RuntimeError(f"exit status {status} of:\n{code}\n{printed}")
        yield block, "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


def run_shell(code: str) -> tuple[int, str]:
    """Return the exit status of a block and what it prints, progress bars left out."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", code], env=os.environ | {"PATH": programs, "NO_COLOR": "1"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return done.returncode, BAR.sub("", done.stdout)


def run_python(code: str, names: dict[str, Any]) -> str:
    """Return what a block prints, with the value of its last expression."""
    body = ast.parse(code).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(printed):
        exec(compile(ast.Module(body, []), "page", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "page", "eval"), names) if last else None
        if value is not None:
            print(repr(value))
    return printed.getvalue()


def comparable(text: str) -> list[str]:
    """Return the lines of an output without numbers and without the width of columns."""
    lines = NUMBER.sub("#", text).splitlines()
    return [" ".join(re.sub(r"-{2,}|\u2500+", "-", line).split()) for line in lines]


def check(page: Path) -> str:
    """Run a page in an empty folder; return where it prints other words than it shows."""
    with empty_folder():
        shown = [(block, printed) for block, printed in run_page(page) if block["shown"] is not None]
    differing = [difflib.unified_diff(comparable(block["shown"]), comparable(printed), "page", "printed", lineterm="")
                 for block, printed in shown]  # fmt: skip
    return "\n".join(line for diff in differing for line in diff)


def write(page: Path) -> None:
    """Run a page in an empty folder and put what its blocks print into it."""
    with empty_folder():
        results = [(block, printed) for block, printed in run_page(page) if block["shown"] is not None]
    text = page.read_text(encoding="utf-8")
    for block, printed in reversed(results):
        text = text[: block.start("shown")] + printed + text[block.end("shown") :]
    page.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def empty_folder() -> Iterator[None]:
    """Work in an empty folder, where Python finds the modules that a page writes."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        sys.path.insert(0, folder)
        yield


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--write", action="store_true", help="put what the blocks print into the page")
    arguments = parser.parse_args()
    chosen = arguments.page.resolve()
    if arguments.write:
        write(chosen)
    sys.exit(None if arguments.write else check(chosen) or None)
