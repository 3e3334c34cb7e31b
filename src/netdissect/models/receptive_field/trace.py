"""Run a network once and find from where on the image the output of each of its modules comes.

A dispatch mode sees every tensor operation of an ordinary forward pass, and `ops` gives the layout of each output.
Two images are passed, so that the batch can be distinguished from other dimensions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from netdissect.models.network import Network
from netdissect.models.outputs import first_tensor
from netdissect.models.receptive_field.ops.op_call import OpCall, TensorLayout
from netdissect.models.receptive_field.ops.propagate import propagate
from netdissect.models.receptive_field.spatial_layout import SpatialLayout, UnknownLayout, image_layout
from netdissect.models.run_module import check_has_data, hookable_modules

TRACED_IMAGES = 2
LATENT = "at the latent, from which a generator draws"
STORED = "at the list of images, whose activations were stored"

Stamp = tuple[int, int]
"""A tensor and how often it was written to: two equal stamps are one tensor with the same values."""


@dataclass(frozen=True, slots=True)
class TracedModule:
    """The output of one module in a forward pass of two images.

    Attributes
    ----------
    name
        Dotted name of the module.
    type
        Name of its class.
    shape
        Of its first output tensor; None if it returned none.
    layout
        From where on the image its elements come; `UnknownLayout` if this could not be followed; None if it was
        computed from parameters alone.
    inputs
        Stamps of the tensors that it was given.
    output
        Stamp of its first output tensor.
    """

    name: str
    type: str
    shape: tuple[int, ...] | None
    layout: TensorLayout
    inputs: tuple[Stamp, ...] = ()
    output: Stamp | None = None

    @property
    def passes_through(self) -> bool:
        """Whether it returned an input as it was, as Identity and Dropout do in evaluation mode."""
        return self.output in self.inputs


def trace(network: Network) -> tuple[TracedModule, ...]:
    """Trace one forward pass of two images, one blank and one of noise, or of two samples of a generator.

    Returns
    -------
    tuple of TracedModule
        Every submodule that ran, in the order in which they finished. A module that ran several times is listed where
        it last finished, with its last output. A module of two names is listed by both.

    Raises
    ------
    NetworkError
        If the network fails on its own input size.
    """
    check_has_data(network.name, network.module)
    arguments, tracker = _traced_arguments(network), _LayoutTracker()
    source = LATENT if network.draws else STORED
    for argument in arguments:
        tracker.layouts[argument] = image_layout(argument) if network.takes_images else UnknownLayout(source)
    traced: dict[str, TracedModule] = {}
    stamps, given = _Stamps(), dict[str, tuple[Stamp, ...]]()

    def enter(name: str, *arguments: object) -> None:
        # Read before the module runs: an in-place one changes its input.
        given[name] = tuple(stamps.of(value) for value in tree_leaves(arguments) if isinstance(value, Tensor))

    def record(name: str, module: torch.nn.Module, _inputs: object, output: object) -> None:
        tensor = first_tensor(output)
        traced.pop(name, None)  # so that the last call, not the first, gives the order
        shape = None if tensor is None else tuple(tensor.shape)
        layout = None if tensor is None else tracker.layouts.get(tensor)
        if layout is None and tensor is not None and _differs(tensor):
            layout = UnknownLayout("where its code leaves torch, for NumPy for example")
        output_stamp = None if tensor is None else stamps.of(tensor)
        traced[name] = TracedModule(name, type(module).__name__, shape, layout, given.get(name, ()), output_stamp)

    hooks: list[RemovableHandle] = []
    for name, module in hookable_modules(network.module, every_name=True):
        if name:
            hooks.append(module.register_forward_pre_hook(partial(enter, name), with_kwargs=True))
            hooks.append(module.register_forward_hook(partial(record, name)))
    try:
        with torch.no_grad(), tracker:
            network.run(arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(traced.values())


def _traced_arguments(network: Network) -> tuple[Tensor, ...]:
    """Return what the module takes for the two images of a trace."""
    if not network.takes_images:
        return network.arguments(network.preprocessing.noise(TRACED_IMAGES))
    preprocessing = network.preprocessing
    images = torch.zeros(TRACED_IMAGES, preprocessing.channels, *preprocessing.size)
    images[1:].uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    return network.arguments(images.to(network.device))


def _differs(output: Tensor) -> bool:
    """Tell whether an output that was not followed differs between the images."""
    first, *others = output if output.ndim and len(output) == TRACED_IMAGES else (output,)
    return any(not torch.equal(first, other) for other in others)


class _Stamps:
    """Number the tensors that are met; a number is not given again when its tensor is gone."""

    def __init__(self) -> None:
        self._numbers: Any = WeakIdKeyDictionary()
        self._next = 0

    def of(self, tensor: Tensor) -> Stamp:
        if tensor not in self._numbers:
            self._numbers[tensor] = self._next
            self._next += 1
        return self._numbers[tensor], 0 if tensor.is_inference() else tensor._version


class _LayoutTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keep the layout of every living tensor that was computed from the image."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layouts: Any = WeakIdKeyDictionary()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to answer yes torch would import its compiler, as large as itself

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # Read before the operation runs: afterwards an in-place one has replaced its input.
        tensors = tuple((tensor, self.layouts.get(tensor)) for tensor in _tensors((*args, *kwargs.values())))
        output = func(*args, **kwargs)
        random = torch.Tag.nondeterministic_seeded in func.tags
        if not random and all(layout is None for _, layout in tensors):
            return output
        call = _op_call(func, args, kwargs, tensors, random=random)
        outputs = list(_tensors((output,)))
        for tensor, layout in zip(outputs, _propagated(call, outputs), strict=True):
            if layout is None:
                self.layouts.pop(tensor, None)
            else:
                self.layouts[tensor] = layout
            if func._schema.name.endswith("_") and tensor._base is not None:
                self._write_through(tensor, layout)
        return output

    def _write_through(self, view: Tensor, layout: TensorLayout) -> None:
        """Note in the base of a view what was written into the view."""
        base = view._base
        if not isinstance(base, Tensor):
            return
        before = self.layouts.get(base)
        unknown = next((one for one in (before, layout) if isinstance(one, UnknownLayout)), None)
        known = [one for one in (before, layout) if isinstance(one, SpatialLayout)]
        if unknown is not None or not known:
            if unknown is not None:
                self.layouts[base] = unknown
            return
        with_cells = [one for one in known if one.has_cells]
        if len({one.grid for one in with_cells}) > 1:
            self.layouts[base] = UnknownLayout("where cells of several maps are written into one tensor")
            return
        codes = torch.empty_strided(base.shape, base.stride(), dtype=torch.int64, device=base.device)
        codes.copy_(before.codes if isinstance(before, SpatialLayout) else torch.zeros_like(codes))
        part = codes.as_strided(view.shape, view.stride(), view.storage_offset() - base.storage_offset())
        part.copy_(layout.codes if isinstance(layout, SpatialLayout) else torch.zeros_like(part))
        self.layouts[base] = replace((with_cells or known)[0], codes=codes)


def _propagated(call: OpCall, outputs: list[Tensor]) -> list[TensorLayout]:
    try:
        return propagate(call, outputs)
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, NotImplementedError):
        # The network must not fail because an operation came in a form that its rule does not know.
        return [UnknownLayout(f"at an unknown form of {call.name}")] * len(outputs)


def _op_call(
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    tensors: tuple[tuple[Tensor, TensorLayout], ...],
    *,
    random: bool,
) -> OpCall:
    schema = func._schema
    space, name = schema.name.split("::")
    name = name.rstrip("_") if name.endswith("_") else name
    names = [argument.name for argument in schema.arguments]
    defaults = {argument.name: argument.default_value for argument in schema.arguments}
    arguments = defaults | dict(zip(names, args, strict=False)) | kwargs
    pointwise = torch.Tag.pointwise in func.tags
    return OpCall(name if space == "aten" else f"{space}.{name}", arguments, tensors, pointwise, random)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)
