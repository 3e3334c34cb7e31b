"""Run a network once and see where on the image the output of each of its modules lies.

Nothing is declared or probed: a dispatch mode sees every tensor operation of an ordinary forward pass, and `rules`
carries along from where each element comes. Two images are passed, so that the batch is told from other dimensions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from netdissect.models.network import Network
from netdissect.models.outputs import first_tensor
from netdissect.models.receptive_field.ops import Found, OpCall, follow
from netdissect.models.receptive_field.spatial_layout import Lost, SpatialLayout, image_place
from netdissect.models.run_module import refuse_without_data, watched

TRACED_IMAGES = 2


@dataclass(frozen=True, slots=True)
class Traced:
    """The output of one module in a forward pass of two images.

    Attributes
    ----------
    name
        Dotted name of the module.
    kind
        Name of its class.
    shape
        Of its first output tensor; None if it returned none.
    place
        From where on the image its elements come; `Lost` if this could not be followed; None if it was computed from
        parameters alone.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    place: Found


def trace(network: Network) -> tuple[Traced, ...]:
    """Follow where elements come from through one forward pass of two images, one blank and one of noise.

    Returns
    -------
    tuple of Traced
        Every submodule that ran, in the order in which they finished. One that ran several times stands where it
        last finished, with its last output; one of two names is there by both.

    Raises
    ------
    NetworkError
        If the network fails on its own input size.
    """
    refuse_without_data(network.name, network.module)
    preprocessing = network.preprocessing
    images = torch.zeros(TRACED_IMAGES, preprocessing.channels, *preprocessing.size)
    images[1:].uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    images = images.to(network.device)
    tracker = _FollowPlaces()
    tracker.places[images] = image_place(images)
    found: dict[str, Traced] = {}

    def note(name: str, module: torch.nn.Module, output: object) -> None:
        tensor = first_tensor(output)
        found.pop(name, None)  # so that the last call, not the first, gives the order
        shape = None if tensor is None else tuple(tensor.shape)
        place = None if tensor is None else tracker.places.get(tensor)
        if place is None and tensor is not None and _differs(tensor):
            place = Lost("where its code leaves torch, to NumPy, say")
        found[name] = Traced(name, type(module).__name__, shape, place)

    hooks = [
        module.register_forward_hook(lambda module, _inputs, output, name=name: note(name, module, output))
        for name, module in watched(network.module, every_name=True)
        if name
    ]
    try:
        with torch.no_grad(), tracker:
            network.forward(images)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(found.values())


def _differs(output: Tensor) -> bool:
    """Tell whether an output that was not followed is another one for another image."""
    first, *others = output if output.ndim and len(output) == TRACED_IMAGES else (output,)
    return any(not torch.equal(first, other) for other in others)


class _FollowPlaces(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keep the place of every living tensor that was computed from the image."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places: Any = WeakIdKeyDictionary()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to say so torch would import its compiler, as large as itself

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # Asked before the operation runs: afterwards an in-place one has replaced its input.
        tensors = tuple((tensor, self.places.get(tensor)) for tensor in _tensors((*args, *kwargs.values())))
        output = func(*args, **kwargs)
        random = torch.Tag.nondeterministic_seeded in func.tags
        if not random and all(place is None for _, place in tensors):
            return output
        call = _call(func, args, kwargs, tensors, random=random)
        outputs = list(_tensors((output,)))
        for tensor, place in zip(outputs, _followed(call, outputs), strict=True):
            if place is None:
                self.places.pop(tensor, None)
            else:
                self.places[tensor] = place
            if func._schema.name.endswith("_") and tensor._base is not None:
                self._write_through(tensor, place)
        return output

    def _write_through(self, view: Tensor, place: Found) -> None:
        """Note in a whole tensor what was written into a part of it."""
        whole = view._base
        if not isinstance(whole, Tensor):
            return
        before = self.places.get(whole)
        lost = next((one for one in (before, place) if isinstance(one, Lost)), None)
        known = [one for one in (before, place) if isinstance(one, SpatialLayout)]
        if lost is not None or not known:
            if lost is not None:
                self.places[whole] = lost
            return
        spread = [one for one in known if one.spread]
        if len({one.grid for one in spread}) > 1:
            self.places[whole] = Lost("by writing cells of several maps into one tensor")
            return
        codes = torch.empty_strided(whole.shape, whole.stride(), dtype=torch.int64, device=whole.device)
        codes.copy_(before.codes if isinstance(before, SpatialLayout) else torch.zeros_like(codes))
        part = codes.as_strided(view.shape, view.stride(), view.storage_offset() - whole.storage_offset())
        part.copy_(place.codes if isinstance(place, SpatialLayout) else torch.zeros_like(part))
        self.places[whole] = replace((spread or known)[0], codes=codes)


def _followed(call: OpCall, outputs: list[Tensor]) -> list[Found]:
    try:
        return follow(call, outputs)
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, NotImplementedError):
        # The network is not to fail because an operation came in a form that its rule does not know.
        return [Lost(f"by a form of {call.name} that is not known")] * len(outputs)


def _call(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: tuple[tuple[Tensor, Found], ...], *, random: bool
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
