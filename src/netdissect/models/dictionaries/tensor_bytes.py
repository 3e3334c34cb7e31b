"""The bytes of a ``.safetensors`` file, the same for the same content."""

import json
from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor

ALIGNMENT = 8


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a ``.safetensors`` file with its metadata in alphabetical order; safetensors writes them in any order.

    Parameters
    ----------
    tensors
        On any device, of any layout.
    metadata
        Text by name.
    """
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }  # two tensors of one memory, such as tied weights, cannot be written
    content = safetensors.torch.save(copies)
    size = int.from_bytes(content[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(content[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]
