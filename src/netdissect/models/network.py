"""A network as the dissection sees it: a module that is run as it is found, and its name."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from netdissect.config import NetworkSource
from netdissect.errors import NetdissectError, NetworkError
from netdissect.models.preprocessing import Preprocessing
from netdissect.models.run_module import (
    agree,
    borrowed,
    called,
    evaluating,
    input_dtypes,
    lay_out,
    refuse,
    refuse_without_data,
    uncompiled,
)


@dataclass
class _Facts:
    """What was found out about a module, and the parts and tensors of which it then consisted."""

    state: list[tuple[Any, ...]]
    parts: list[torch.nn.Module]
    digest: str | None = None
    dtype: torch.dtype | None = None
    channels_last: bool | None = None

    def is_of(self, state: list[tuple[Any, ...]], parts: list[torch.nn.Module]) -> bool:
        """Tell whether these are the same objects, unchanged."""
        return (
            len(state) == len(self.state)
            and len(parts) == len(self.parts)
            and all(one is other for one, other in zip(parts, self.parts, strict=True))
            and all(a[0] == b[0] and a[1] is b[1] and a[2:] == b[2:] for a, b in zip(state, self.state, strict=True))
        )


@dataclass(eq=False)
class Network:
    """Any module with its preprocessing, ready to be looked into.

    The module stays the caller's: it runs in evaluation mode and without gradients, and is afterwards as it was.

    Attributes
    ----------
    name
        What reports and files call it.
    module
        Takes (B, C, H, W) in the kind of floating-point numbers that its parameters have.
    preprocessing
        How its input is made from pixels.
    bases
        Virtual layers: name -> (name of a layer, float32 (U', U)). Their units are the matrix times the
        layer's units, at each cell: a change of basis, as in the rotation experiment.
    source
        What it was loaded from by name; None: it was made in Python, and a run of it cannot load it again.

    Raises
    ------
    NetworkError
        If `module` is no module, or one whose parts run where no hook sees them.

    Examples
    --------
    >>> module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU()).bfloat16()
    >>> network = Network("tiny", module, Preprocessing((28, 28), mean=(0.5,), std=(0.25,)))
    >>> network.dtype, module.training
    (torch.bfloat16, True)
    """

    name: str
    module: torch.nn.Module
    preprocessing: Preprocessing
    bases: Mapping[str, tuple[str, Tensor]] = field(default_factory=dict)
    source: NetworkSource | None = None
    _layout: torch.memory_format = field(default=torch.contiguous_format, init=False, repr=False)
    _borrowed: bool = field(default=False, init=False, repr=False)
    _facts: _Facts | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        refuse(self.name, self.module)
        if not isinstance(self.preprocessing, Preprocessing):
            raise NetworkError(
                f"Network {self.name!r} was given a {type(self.preprocessing).__name__} as its preprocessing. "
                "Expected netdissect.models.Preprocessing(size, mean, std)."
            )

    @property
    def digest(self) -> str:
        """SHA-256 over weights, bases and structure: names, classes and settings of all modules.

        Computed once, and anew when a weight or a module was replaced or changed. The preprocessing is not part of it.
        """
        facts = self._known()
        if facts.digest is None:
            refuse_without_data(self.name, self.module)
            facts.digest = _digest(self.module, self.bases)
        return facts.digest

    @property
    def device(self) -> torch.device:
        """Where the module's weights are; the CPU if it has none."""
        tensors = (value for value in self.module.state_dict().values() if isinstance(value, Tensor))
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Kind of floating-point numbers of the input: that of the parameters.

        Where they are of several kinds, the first of them with which the module runs.
        """
        kinds = input_dtypes(self.module)
        if len(kinds) == 1:
            return kinds[0]
        facts = self._known()
        if facts.dtype is None:
            facts.dtype = next((kind for kind in kinds if self._tried(kind, self._layout) is not None), kinds[0])
        return facts.dtype

    @contextmanager
    def prepared(self, device: torch.device | None = None) -> Iterator[None]:
        """Have the module in evaluation mode, on a device, and in the layout in which convolutions run fastest.

        On a CPU convolutions run up to twice as fast with the channels of a pixel side by side. A module takes this
        layout if it runs with it on noise and gives the same up to rounding: code that flattens with ``view`` does
        not. Afterwards modes and tensors are those of before. Within another such block it does nothing.

        Parameters
        ----------
        device
            None: where it is.

        Raises
        ------
        NetworkError
            If its weights hold no numbers.
        """
        if self._borrowed:
            yield
            return
        refuse_without_data(self.name, self.module)
        with evaluating(self.module), borrowed(self.module):
            self._known()
            self._borrowed = True
            try:
                if device is not None:
                    self.module.to(device)
                if self._takes_channels_last():
                    lay_out(self.module, torch.channels_last)
                    self._layout = torch.channels_last
                yield
            finally:
                self._borrowed, self._layout = False, torch.contiguous_format

    def forward(self, images: Tensor) -> object:
        """Run the module on its input, in evaluation mode and as it was before torch.compile.

        Parameters
        ----------
        images : float32 (B, C, H, W)
            Normalized pictures.

        Raises
        ------
        NetworkError
            If the module's own code fails.
        """
        try:
            with evaluating(self.module), uncompiled():
                return called(self.module)(self.as_input(images))
        except NetdissectError:
            raise
        except Exception as error:
            height, width = self.preprocessing.size
            raise NetworkError(
                f"Network {self.name!r} fails on an input of shape {tuple(images.shape)} with "
                f"{type(error).__name__}: {error}. Expected a module that takes (batch, {self.preprocessing.channels}, "
                f"{height}, {width}); give the size and channels that it was made for."
            ) from error

    def as_input(self, images: Tensor) -> Tensor:
        """Bring normalized pictures to the module's kind of numbers and layout in memory."""
        laid = images.to(self.dtype).contiguous(memory_format=self._layout)
        if laid.ndim == 4 and laid.shape[1] == 1:
            # One channel is in both layouts at once, but a convolution chooses its way, and its last bits, by strides.
            laid = torch.empty_like(laid, memory_format=self._layout).copy_(laid)
        return laid

    def _takes_channels_last(self) -> bool:
        """Tell whether the module gives the same with the channels of a pixel side by side."""
        facts = self._known()
        if facts.channels_last is None:
            convolves = any(tensor.ndim == 4 for tensor in self.module.parameters())
            # Rounding differs too much between layouts in other formats.
            plain = self._tried(self.dtype, torch.contiguous_format) if convolves else None
            facts.channels_last = False
            if plain is not None and self.dtype == torch.float32:
                with borrowed(self.module):
                    lay_out(self.module, torch.channels_last)
                    other = self._tried(self.dtype, torch.channels_last)
                facts.channels_last = other is not None and agree(plain, other)
        return facts.channels_last

    def _tried(self, dtype: torch.dtype, layout: torch.memory_format) -> list[object] | None:
        """Return what the module gives for two pictures of noise; None: it fails."""
        generator = torch.Generator().manual_seed(0)
        shape = (2, self.preprocessing.channels, *self.preprocessing.size)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        images = self.preprocessing.normalize(pixels).to(self.device, dtype).contiguous(memory_format=layout)
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.no_grad(), evaluating(self.module), uncompiled(), torch.random.fork_rng(devices):
                return [called(self.module)(images)]
        except Exception:  # what the module's own code raises is not foreseeable; it will be said when it is run
            return None

    def _known(self) -> _Facts:
        """Return what was found out about the module as it is now; that we move and lay it out changes nothing."""
        if self._borrowed and self._facts is not None:
            return self._facts
        state = [(name, value, *_version(value)) for name, value in self.module.state_dict(keep_vars=True).items()]
        parts = [*self.module.modules()]
        if self._facts is None or not self._facts.is_of(state, parts):
            self._facts = _Facts(state, parts)
        return self._facts


def _version(value: object) -> tuple[int, int]:
    """Return what changes when a tensor is written to, or is given another memory."""
    if not isinstance(value, Tensor) or value.is_meta or value.is_quantized:
        return 0, 0
    return (0 if value.is_inference() else value._version), value.data_ptr()


def _digest(module: torch.nn.Module, bases: Mapping[str, tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        kind = f"{type(part).__module__}.{type(part).__qualname__}"
        # Some modules print functions among their settings, with an address that differs from run to run.
        settings = re.sub(r" at 0x[0-9a-f]+", "", part.extra_repr())
        digest.update(repr((name, kind, settings)).encode())
    virtual = {f"{name} of {source}": matrix for name, (source, matrix) in bases.items()}
    for name, value in (module.state_dict() | virtual).items():
        # Quantized linear layers keep their weights packed, in tuples.
        for tensor in tree_leaves(value):
            if isinstance(tensor, Tensor):
                digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
                digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    plain = tensor.dequantize() if tensor.is_quantized else tensor
    numbers: memoryview = plain.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return numbers
