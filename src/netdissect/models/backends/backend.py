"""What a backend is: a way of running a network up to some of its modules.

with open_backend(network, modules, settings) as run:
    outputs = run(images)  # {"layer4": float32, as the module returns it}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from netdissect.config import BackendName, Precision
from netdissect.models.outputs import first_tensor

Modules = Mapping[str, nn.Module]
"""The modules whose outputs are recorded, by the name of their layer."""


@dataclass(frozen=True)
class BackendSettings:
    """Which backend runs a network, and how.

    Attributes
    ----------
    name
        Of the backend.
    batch_size
        Images of a batch of the run.
    precision
        Number format of the forward pass. Whoever calls the backend switches autocast on; a backend that does not
        follow it refuses bfloat16.
    folder
        Where exported graphs stay for the next run; None: nowhere.
    """

    name: BackendName = "eager"
    batch_size: int = 1
    precision: Precision = "float32"
    folder: Path | None = None


EAGER = BackendSettings()


class Backend(Protocol):
    """Runs a network up to its recorded modules."""

    @property
    def batch_size(self) -> int | None:
        """Number of images that every call has; None: any. `ActivationRecorder` splits and pads batches."""

    @property
    def calls_at_once(self) -> int:
        """From how many threads it may be called at the same time."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Run the network once.

        Parameters
        ----------
        images : float32 (B, C, H, W)
            Normalized, on the network's device.

        Returns
        -------
        dict of str to float32
            The output of the last run of each module, in its own shape, before any later operation changes it in place.
            A module that did not run is left out.

        Raises
        ------
        BackendError
            If this backend cannot take the network.
        NetworkError
            If the network fails.
        """
        ...


def kept(output: object, *, copy: bool = True) -> Tensor | None:
    """Return the tensor of an output as float32: a copy, since the next operation may work in place (AlexNet)."""
    tensor = first_tensor(output)
    if tensor is None:
        return None
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
    return tensor.to(torch.float32, memory_format=torch.contiguous_format, copy=copy)
