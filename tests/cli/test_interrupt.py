"""Ctrl-C in a real process: it ends at once, says so, and keeps what was done."""

import os
import signal
import subprocess
import sys
import time

import pytest
from torch import get_num_threads

SLOW = """
import time
import torch
from netdissect import Preprocessing


class Slow(torch.nn.Module):
    def forward(self, images):
        time.sleep({seconds})
        return torch.relu(images[:, :2] - images[:, 1:])


def slow():
    return torch.nn.Sequential(Slow(), torch.nn.Identity()), Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3)
"""


def ended(process: subprocess.Popen[str], within: float) -> str:
    """Return what a process told until it ended; one that does not end is made to show where its threads stand."""
    try:
        return process.communicate(timeout=within)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        told = process.communicate()[1]
        pytest.fail(f"still running {within} s after Ctrl-C:\n{told}")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_ctrl_c_ends_a_run_cleanly_and_the_same_command_finishes_it(netdissect, labeled, tmp_path, monkeypatch) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    netdissect("concepts", "build", f"masks:{labeled}", "--size", 32, "--workers", 1, "--out", data)
    (tmp_path / "slow_network.py").write_text(SLOW.format(seconds=0.3))
    arguments = [
        "run",
        "python:slow_network:slow",
        "--concepts",
        data,
        "--layer",
        "0",
        "--batch-size",
        "1",
        "--out",
        out,
    ]
    command = [sys.executable, "-X", "faulthandler", "-c", "from netdissect.cli import main; main()"]
    command += map(str, arguments)
    paths = [str(tmp_path), *filter(None, sys.path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(get_num_threads())}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    store = out / "work" / "0.bin"
    deadline = time.monotonic() + 120
    while not (store.exists() and store.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told = ended(process, within=60)
    assert process.returncode == 130, told
    assert "interrupted: finished work is kept" in told
    assert "Traceback" not in told
    assert (out / "work" / "fingerprint.json").is_file()
    assert not (out / "run.json").exists()
    (tmp_path / "slow_network.py").write_text(SLOW.format(seconds=0))
    monkeypatch.syspath_prepend(str(tmp_path))
    done = netdissect(*arguments)
    assert done.code == 0, done.err
    assert (out / "run.json").is_file()
    assert not (out / "work").exists()
