"""The compiled kernels that compute activations: the last bits depend on them, and the processor selects them."""

import hashlib
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional


def kernels(device: str) -> str:
    """Name the kernels of a device, so that shards computed by other kernels are not merged.

    Returns
    -------
    str
        Of a CPU the instruction set that torch reports, and a digest of the results of a few fixed operations at the
        current number of threads, because oneDNN and MKL do not report what they select. Of another device its name.
    """
    if not device.startswith("cpu"):
        return _name_of(torch.device(device))
    return f"{torch.backends.cpu.get_cpu_capability()} {_fingerprint(torch.get_num_threads())}"


def _name_of(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} {properties.major}.{properties.minor} cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]


@lru_cache
def _fingerprint(_threads: int) -> str:
    # NumPy's generator gives the same bits on every processor; torch's depends on its kernels.
    rng = np.random.default_rng(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    digest = hashlib.sha256()
    with torch.inference_mode():
        maps = random(4, 16, 14, 14).contiguous(memory_format=torch.channels_last)
        rows = random(4, 50, 96)
        for result in (
            functional.conv2d(maps, random(32, 16, 3, 3), padding=1),
            functional.conv2d(maps, random(32, 16, 1, 1)),
            functional.conv2d(maps, random(16, 1, 3, 3), groups=16),
            functional.linear(rows, random(33, 96), random(33)),
            rows @ rows.transpose(1, 2),
            rows.softmax(-1),
            functional.gelu(rows),
            functional.layer_norm(rows, (96,)),
            rows.sum(),
        ):
            digest.update(result.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
