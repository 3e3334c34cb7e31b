"""The wheel, installed outside the checkout: demo, report and explorer find all that they need in it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def run(*command: object, folder: Path) -> str:
    """Run a command that must succeed, far from the checkout and what it was told about it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NETDISSECT"))}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The demo's own settings are those of its tests: here it matters that nothing is missing.
DEMO = """
import netdissect.training
from netdissect.cli import main
from netdissect.training.scene_net import TrainConfig

train_config = TrainConfig(size=64, num_images=64, held_out=16, steps=4, units=(4, 6, 8, 8, 8), batch_size=16)
netdissect.training.FAST_DEMO = netdissect.training.DemoConfig(images=48, train_config=train_config)
main()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, folder=CHECKOUT)
    (made,) = folder.glob("netdissect-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel of its own, and borrows what it depends on from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (python,) = folder.glob("*/python")
    options = ("--no-deps", "--no-index", "--no-compile")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, folder=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    borrow_machine_code(packages)
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # whose own .pth files are not read
    return folder


def borrow_machine_code(packages: Path) -> None:
    """Copy what Numba has compiled of the same loops in the checkout: compiling it anew takes 20 s."""
    source = CHECKOUT / "src"
    for file in source.rglob("*.nb[ic]"):
        copy = packages / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)
    for installed in (packages / "netdissect").rglob("*.py"):
        shutil.copystat(source / installed.relative_to(packages), installed)  # by which Numba knows a source


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    source = CHECKOUT / "src"
    listed = subprocess.run(
        ["git", "ls-files", "src"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    there = {Path(name).relative_to("src").as_posix() for name in listed if (CHECKOUT / name).is_file()}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held >= there
    assert all((source / name).is_file() for name in held)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="folders of an environment are others")
def test_demo_report_and_explorer_run_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / "netdissect"
    found = run(installed / "bin" / "python", "-c", "import netdissect; print(netdissect.__file__)", folder=tmp_path)
    assert Path(found.strip()).is_relative_to(installed)
    demo = (installed / "bin" / "python", "-c", DEMO, "demo", "--fast", "--out", "demo")
    assert "The report is" in run(*demo, folder=tmp_path)
    runs = tmp_path / "demo" / "runs"
    run(command, "report", runs / "random", "--out", "page", folder=tmp_path)
    assert "<html" in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    served = subprocess.Popen(
        [command, "serve", runs / "trained", "--port", "0"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert served.stderr is not None
    try:
        addresses = (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in served.stderr)
        address = next(found[0] for found in addresses if found)
        page = httpx.get(address, timeout=60, follow_redirects=True)
        assert page.status_code == 200
        static = re.findall(r"""["'(](/?static/[^"')]+)""", page.text)
        assert static
        for name in static:
            assert httpx.get(address + name.lstrip("/"), timeout=60).status_code == 200
    finally:
        served.kill()
        served.wait()
        served.stderr.close()
