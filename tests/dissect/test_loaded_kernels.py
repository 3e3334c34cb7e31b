"""Which kernels compute is known, whatever chose them."""

import os
import subprocess
import sys

import pytest
import torch

from netdissect.dissect.work_dir.loaded_kernels import kernels

SAY = "from netdissect.dissect.work_dir.loaded_kernels import kernels; print(kernels('cpu'))"


def test_the_name_of_the_kernels_is_the_same_each_time() -> None:
    capability, digest = kernels("cpu").split()
    assert capability == torch.backends.cpu.get_cpu_capability()
    assert len(digest) == 12
    assert kernels("cpu") == kernels("cpu:0") == f"{capability} {digest}"


@pytest.mark.slow
@pytest.mark.parametrize("choice", [{}, {"ATEN_CPU_CAPABILITY": "default"}, {"ONEDNN_MAX_CPU_ISA": "SSE41"}])
def test_other_kernels_have_another_name(choice: dict[str, str]) -> None:
    """Hold the name against what environment variables of torch and of oneDNN choose in another process."""
    environment = os.environ | choice | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    named = subprocess.run([sys.executable, "-c", SAY], env=environment, check=True, capture_output=True, text=True)
    assert (named.stdout.strip() == kernels("cpu")) is not bool(choice)
