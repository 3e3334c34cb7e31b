"""Run a network once and see where on the picture the output of each of its modules lies.

Nothing is declared or probed: a dispatch mode sees every tensor operation of an ordinary forward
pass, and `rules` moves the receptive fields along with it.
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
from netdissect.models.places import Place, image_place
from netdissect.models.rules import Call, follow


@dataclass(frozen=True, slots=True)
class Traced:
    """The output of one module in a forward pass of one image.

    Attributes
    ----------
    name
        Dotted name of the module.
    kind
        Name of its class.
    shape
        Of its first output tensor; None if it returned none.
    place
        Where that lies on the picture; None if this could not be followed.
    of_image
        Whether it was computed from the picture at all, not from parameters alone.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    place: Place | None
    of_image: bool


def trace(network: Network) -> tuple[Traced, ...]:
    """Follow receptive fields through one forward pass of one blank image.

    Returns
    -------
    tuple of Traced
        Every submodule that ran, in the order in which they finished. One that ran several times stands where it
        last finished, with its last output.

    Raises
    ------
    NetworkError
        If the network fails on its own input size.
    """
    preprocessing = network.preprocessing
    blank = torch.zeros(1, preprocessing.channels, *preprocessing.size, device=network.device)
    fields = _FollowFields()
    fields.places[blank] = image_place(blank.shape)
    found: dict[str, Traced] = {}

    def note(name: str, module: torch.nn.Module, output: object) -> None:
        tensor = first_tensor(output)
        found.pop(name, None)  # so that the last call, not the first, gives the order
        if tensor is None:
            found[name] = Traced(name, type(module).__name__, None, None, of_image=False)
        else:
            place, of_image = fields.places.get(tensor), tensor in fields.places
            found[name] = Traced(name, type(module).__name__, tuple(tensor.shape), place, of_image)

    hooks = [
        module.register_forward_hook(lambda module, _inputs, output, name=name: note(name, module, output))
        for name, module in network.module.named_modules()
        if name
    ]
    try:
        with torch.no_grad(), fields:
            result = first_tensor(network.forward(blank))
            followed = result is not None and result in fields.places
    finally:
        for hook in hooks:
            hook.remove()
    # Code that leaves torch (through NumPy, say) breaks the thread: then nothing is known of any tensor behind it.
    return tuple(traced if followed else replace(traced, of_image=True) for traced in found.values())


class _FollowFields(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keep the place of every living tensor that was computed from the picture; None where it could not be told."""

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
        if not any(tensor in self.places for tensor, _ in tensors):
            return output
        call = Call(func._schema.name.split("::")[-1].rstrip("_"), _bound(func, args, kwargs), tensors)
        for tensor in _tensors((output,)):
            self.places[tensor] = follow(call, tuple(tensor.shape))
            written = func._schema.name.endswith("_") and tensor._base
            if isinstance(written, Tensor) and written not in self.places:
                self.places[written] = None  # a part of it now shows the picture
        return output


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _bound(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    names = [argument.name for argument in func._schema.arguments]
    defaults = {argument.name: argument.default_value for argument in func._schema.arguments}
    return defaults | dict(zip(names, args, strict=False)) | kwargs
