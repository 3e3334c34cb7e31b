"""More images take more time, not more memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A process of its own: the largest memory of a process never falls. The first run loads libraries and compiled loops;
# the second and the third differ in their images alone.
PROGRAM = """
import sys
from pathlib import Path
import netdissect
from benchmarks.memory import Case, network_of, write_data
from benchmarks.process import peak_memory
from netdissect.config import DissectConfig, StatisticsConfig

folder = Path(sys.argv[1])
for run, images in enumerate((100, 100, 1000)):
    case = Case(units=200, side=14, images=images, concepts=1197)
    write_data(folder / f"data{run}", images, case.concepts)
    config = DissectConfig(layers=("2",), statistics=StatisticsConfig(bootstrap=0))
    netdissect.dissect(network_of(case), folder / f"data{run}", config=config, out=folder / f"run{run}")
    print(peak_memory())
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="asks the system for the largest memory so far")
def test_ten_times_the_images_take_no_more_memory(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, few, many = map(int, done.stdout.split())
    assert many - few < 80e6, f"{(many - few) / 1e6:.0f} MB more"
