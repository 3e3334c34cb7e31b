"""A network: a module, its preprocessing and its name."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from netdissect.errors import NetdissectError, NetworkError
from netdissect.models.preprocessing import Preprocessing
from netdissect.models.run_module import (
    check_has_data,
    check_module,
    evaluation_mode,
    input_dtypes,
    is_out_of_memory,
    outputs_agree,
    restoring_tensors,
    set_memory_format,
    unwrapped,
    without_compiling,
)

if TYPE_CHECKING:
    from netdissect.config import Assumed, NetworkSource
    from netdissect.models.dictionaries.basis import Basis


@dataclass
class _Facts:
    """Facts about a module, and the parts and tensors of which it consisted when they were found."""

    state: list[tuple[Any, ...]]
    parts: list[torch.nn.Module]
    digest: str | None = None
    dtype: torch.dtype | None = None
    channels_last: bool | None = None

    def are_of(self, state: list[tuple[Any, ...]], parts: list[torch.nn.Module]) -> bool:
        """Tell whether a module still consists of the same objects, unchanged."""
        return (
            len(state) == len(self.state)
            and len(parts) == len(self.parts)
            and all(one is other for one, other in zip(parts, self.parts, strict=True))
            and all(a[0] == b[0] and a[1] is b[1] and a[2:] == b[2:] for a, b in zip(state, self.state, strict=True))
        )


@dataclass(eq=False)
class Network:
    """Any module with its preprocessing.

    The module runs in evaluation mode and without gradients, and is restored afterwards.

    Attributes
    ----------
    name
        Its name in reports and files.
    module
        Takes (B, C, H, W) in the floating-point type of its parameters.
    preprocessing
        How its input is made from pixels.
    bases
        Virtual layers: name -> `netdissect.models.dictionaries.basis.Basis`. Their units are computed from those of a
        layer, at each cell: a rotation, principal components, the latents of a sparse autoencoder.
    source
        From where it was loaded by name; None: it was made in Python, and a run of it cannot load it again.
    passes
        What backends found out about its forward passes, within `prepared`; None: outside.

    Raises
    ------
    NetworkError
        If `module` is no module, or its parts cannot have hooks.

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
    bases: Mapping[str, "Basis"] = field(default_factory=dict)
    source: "NetworkSource | None" = None
    _memory_format: torch.memory_format = field(default=torch.contiguous_format, init=False, repr=False)
    _prepared: bool = field(default=False, init=False, repr=False)
    _facts: _Facts | None = field(default=None, init=False, repr=False)
    passes: dict[object, Any] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise NetworkError(
                f"The name of a network is a {type(self.name).__name__}. Expected text: Network(name, module, "
                "preprocessing); netdissect.as_network(module, preprocessing) names it by its class."
            )
        check_module(self.name, self.module)
        if not isinstance(self.preprocessing, Preprocessing):
            raise NetworkError(
                f"Network {self.name!r} was given a {type(self.preprocessing).__name__} as its preprocessing. "
                "Expected netdissect.models.Preprocessing(size, mean, std)."
            )

    @staticmethod
    def from_timm(
        model: str | torch.nn.Module, preprocessing: object = None, *, weights: str | None = None
    ) -> "Network":
        """Return a model of timm as a network, with the preprocessing that it states.

        Parameters
        ----------
        model
            A name, such as ``resnet18.a1_in1k``, or a model. A run of a name records how to load it again.
        preprocessing
            Replaces that of the model; see `as_network`.
        weights
            For a name, as `load_network` takes it: a file, or ``none`` for random weights.

        Raises
        ------
        NetworkError
            If there is no such model, its weights cannot be loaded, or its preprocessing is not known.
        MissingExtraError
            If a name is given and timm is not installed.

        Examples
        --------
        >>> Network.from_timm("resnet10t", weights="none").preprocessing.size
        Size(height=176, width=176)
        """
        return _of_library("timm", model, preprocessing, weights)

    @staticmethod
    def from_transformers(
        model: str | Path | torch.nn.Module, preprocessing: object = None, *, weights: str | None = None
    ) -> "Network":
        """Return a model of transformers as a network, with the preprocessing of its image processor.

        Parameters
        ----------
        model
            A name of the Hugging Face hub, the folder to which model and image processor were saved, or a model. A
            name or folder gives a model of the class that was saved; of a model of text and images it gives the part
            for images. Weights are read from safetensors alone, and code that comes with a model is not run.
        preprocessing
            Replaces that of the model; see `as_network`.
        weights
            For a name or folder, as `load_network` takes it: a file, or ``none`` for random weights.

        Raises
        ------
        NetworkError
            If there is no such model, it takes no images, or its preprocessing is not known.
        MissingExtraError
            If a name is given and transformers is not installed.
        """
        return _of_library("transformers", model, preprocessing, weights)

    @property
    def draws(self) -> bool:
        """Whether it is a generator, which takes latents and draws images."""
        return False

    @property
    def takes_images(self) -> bool:
        """Whether its input is made from images: that of a generator, or of stored activations, is not."""
        return not self.draws

    @property
    def digest(self) -> str:
        """SHA-256 over weights, bases and structure: names, classes and settings of all modules.

        Computed once, and again when a weight or a module was replaced or changed. The preprocessing is not part of it.
        """
        facts = self._current_facts()
        if facts.digest is None:
            check_has_data(self.name, self.module)
            facts.digest = module_digest(self.module, self.bases)
        return facts.digest

    @property
    def device(self) -> torch.device:
        """Device of the module's weights; the CPU if it has none."""
        tensors = (value for value in self.module.state_dict().values() if isinstance(value, Tensor))
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the input: that of the parameters.

        If they have several types, the first with which the module runs.
        """
        facts = self._current_facts()
        if facts.dtype is None:
            dtypes = input_dtypes(self.module)
            runs = (dtype for dtype in dtypes if len(dtypes) == 1 or self._try(dtype, self._memory_format) is not None)
            facts.dtype = next(runs, dtypes[0])
        return facts.dtype

    @contextmanager
    def prepared(self, device: torch.device | None = None) -> Iterator[None]:
        """Put the module into evaluation mode, on a device, in the memory format in which convolutions run fastest.

        On a CPU convolutions run up to twice as fast in the format channels_last. A module gets this format if it runs
        with it on noise and gives the same up to rounding; code that flattens with ``view`` fails. Modes and tensors
        are restored afterwards. Within another such block it does nothing.

        Parameters
        ----------
        device
            None: its own.

        Raises
        ------
        NetworkError
            If its weights hold no numbers.
        """
        if self._prepared:
            yield
            return
        check_has_data(self.name, self.module)
        with evaluation_mode(self.module), restoring_tensors(self.module):
            self._current_facts()
            self._prepared, self.passes = True, {}
            try:
                if device is not None:
                    self.module.to(device)
                if self._takes_channels_last():
                    set_memory_format(self.module, torch.channels_last)
                    self._memory_format = torch.channels_last
                yield
            finally:
                self._prepared, self._memory_format, self.passes = False, torch.contiguous_format, None

    def forward(self, images: Tensor) -> object:
        """Run the module on its input, in evaluation mode and without compiling.

        Parameters
        ----------
        images : float32 (B, C, H, W)
            Normalized images.

        Raises
        ------
        NetworkError
            If the module's own code fails.
        """
        return self.run(self.arguments(images))

    def run(self, arguments: Sequence[Tensor]) -> object:
        """Run the module on the tensors that it takes; see `arguments`.

        Raises
        ------
        NetworkError
            If the module's own code fails.
        """
        try:
            with nullcontext() if self._prepared else evaluation_mode(self.module), without_compiling():
                return unwrapped(self.module)(*arguments)
        except NetdissectError:
            raise
        except Exception as error:
            found, expected = self._failure(arguments)
            if is_out_of_memory(error):
                raise NetworkError(
                    f"Network {self.name!r} runs out of memory of device {self.device} on {found}. Expected a smaller "
                    "batch (--batch-size; auto finds one), another device or a smaller input."
                ) from error
            raise NetworkError(
                f"Network {self.name!r} fails on {found} with {type(error).__name__}: {error}. Expected {expected}."
            ) from error

    def _failure(self, arguments: Sequence[Tensor]) -> tuple[str, str]:
        """Return what the module failed on and what it should take, for messages."""
        height, width = self.preprocessing.size
        return f"an input of shape {tuple(arguments[0].shape)}", (
            f"a module that takes (batch, {self.preprocessing.channels}, {height}, {width}); give the size and "
            "channels that it was made for"
        )

    def arguments(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors that the module takes: one, normalized images in its type and memory format."""
        return (self.as_input(images),)

    def assumed(self, given: "Assumed") -> "Assumed":
        """Return what is assumed of layers that cannot be traced."""
        return given

    def as_input(self, images: Tensor) -> Tensor:
        """Bring normalized images to the module's floating-point type and memory format."""
        inputs = images.to(self.dtype).contiguous(memory_format=self._memory_format)
        if inputs.ndim == 4 and inputs.shape[1] == 1:
            # One channel is in both formats at once, but strides decide how a convolution runs, and its last bits.
            inputs = torch.empty_like(inputs, memory_format=self._memory_format).copy_(inputs)
        return inputs

    def _takes_channels_last(self) -> bool:
        """Tell whether the module gives the same in the memory format channels_last."""
        facts = self._current_facts()
        if facts.channels_last is None:
            convolves = any(tensor.ndim == 4 for tensor in self.module.parameters())
            # Other types round too differently between the memory formats.
            plain = self._try(self.dtype, torch.contiguous_format) if convolves else None
            facts.channels_last = False
            if plain is not None and self.dtype == torch.float32:
                with restoring_tensors(self.module):
                    set_memory_format(self.module, torch.channels_last)
                    other = self._try(self.dtype, torch.channels_last)
                facts.channels_last = other is not None and outputs_agree(plain, other)
        return facts.channels_last

    def _try(self, dtype: torch.dtype, memory_format: torch.memory_format) -> list[object] | None:
        """Return the output of the module for two images of noise; None: it fails."""
        arguments = self._noise_arguments(dtype, memory_format)
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.no_grad(), evaluation_mode(self.module), without_compiling(), torch.random.fork_rng(devices):
                return [unwrapped(self.module)(*arguments)]
        except Exception:  # the module's own code may raise anything; `forward` reports it
            return None

    def _noise_arguments(self, dtype: torch.dtype, memory_format: torch.memory_format) -> tuple[Tensor, ...]:
        """Return the tensors that the module takes for two images of noise."""
        images = self.preprocessing.normalize(self.preprocessing.noise(2))
        return (images.to(self.device, dtype).contiguous(memory_format=memory_format),)

    def _current_facts(self) -> _Facts:
        """Return the facts about the module as it is now; moving it and its memory format do not change them."""
        if self._prepared and self._facts is not None:
            return self._facts
        state = [(name, value, *_version(value)) for name, value in self.module.state_dict(keep_vars=True).items()]
        parts = [*self.module.modules()]
        if self._facts is None or not self._facts.are_of(state, parts):
            self._facts = _Facts(state, parts)
        return self._facts


def _of_library(
    library: str, model: str | Path | torch.nn.Module, preprocessing: object, weights: str | None
) -> Network:
    from netdissect.models.as_network import as_network, named_network  # these import this module

    if isinstance(model, (str, Path)):
        return named_network(f"{library}:{model}", preprocessing, weights)
    if weights is not None:
        raise NetworkError(
            f"weights={weights!r} are given for a {type(model).__name__}, which has weights. Expected a name with "
            "weights=; load those of a file by netdissect.models.load_checkpoint(module, path)."
        )
    return as_network(model, preprocessing)


def _version(value: object) -> tuple[int, int]:
    """Return numbers that change when a tensor is written to, or gets another memory."""
    if not isinstance(value, Tensor) or value.is_meta or value.is_quantized:
        return 0, 0
    return (0 if value.is_inference() else value._version), value.data_ptr()


def module_digest(module: torch.nn.Module, bases: Mapping[str, "Basis"]) -> str:
    """Return the SHA-256 of the structure and weights of a module, and of the tensors of virtual layers."""
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        class_name = f"{type(part).__module__}.{type(part).__qualname__}"
        # Some modules print functions among their settings, with an address that changes from run to run.
        settings = re.sub(r" at 0x[0-9a-f]+", "", part.extra_repr())
        digest.update(repr((name, class_name, settings)).encode())
    virtual = {
        f"{name}, {basis.kind} of {basis.source}: {key}": tensor
        for name, basis in sorted(bases.items())
        for key, tensor in basis.state().items()
    }
    for name, value in (module.state_dict() | virtual).items():
        # Quantized linear layers keep their weights packed, in tuples.
        for tensor in tree_leaves(value):
            if isinstance(tensor, Tensor):
                digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
                digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    plain = tensor.dequantize() if tensor.is_quantized else tensor
    content: memoryview = plain.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return content
