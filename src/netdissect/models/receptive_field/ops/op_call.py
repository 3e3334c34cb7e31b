"""One tensor operation as it ran, with the layouts of its inputs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netdissect.models.receptive_field.spatial_layout import SpatialLayout, UnknownLayout

TensorLayout = SpatialLayout | UnknownLayout | None
"""None: the tensor is not computed from the image."""
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpCall:
    """One operation as it ran.

    Attributes
    ----------
    name
        Operation without overload and trailing underscore; with its namespace if that is not ATen's.
    arguments
        Every argument by its name, defaults filled in.
    tensors
        Tensors among the arguments, those in lists too, with their layouts.
    pointwise
        Whether torch tags it as element by element.
    random
        Whether torch tags it as drawing random numbers.
    """

    name: str
    arguments: dict[str, Any]
    tensors: tuple[tuple[Tensor, TensorLayout], ...]
    pointwise: bool = False
    random: bool = False

    @property
    def spatial_rank(self) -> int:
        """On how many of the last dimensions a windowed operation works."""
        if "weight" in self.arguments:
            return int(self.arguments["weight"].ndim) - 2
        return int(re.findall(r"(\d)d", self.name)[-1])

    @property
    def unknown(self) -> UnknownLayout:
        """The layout of an output that cannot be followed."""
        inputs = (layout for _, layout in self.tensors if isinstance(layout, UnknownLayout))
        return next(inputs, UnknownLayout(f"at {self.name}"))

    def layout_of(self, tensor: object) -> TensorLayout:
        """Return the layout of a tensor among the arguments."""
        return next((layout for argument, layout in self.tensors if argument is tensor), None)

    def per_dimension(self, argument: str) -> list[int]:
        """Return an argument that is one number, or one for each spatial dimension, as the latter."""
        value = self.arguments[argument]
        numbers = [value] if isinstance(value, int) else list(value)
        return numbers * self.spatial_rank if len(numbers) == 1 else numbers


MultiInputRule = Callable[[OpCall, Shape], SpatialLayout | None]
"""Operation, shape of the output -> its layout; None: it is not known."""
SingleInputRule = Callable[[OpCall, SpatialLayout, Shape], SpatialLayout | None]
"""Operation, layout of its first tensor, shape of the output -> its layout; None: it is not known."""


def codes_of(tensor: Tensor, layout: TensorLayout) -> Tensor:
    """Return the codes of a tensor; zeros if it is not computed from the image."""
    if isinstance(layout, SpatialLayout):
        return layout.codes
    return torch.zeros((), dtype=torch.int64, device=tensor.device).expand(tensor.shape)


def op_names(text: str) -> frozenset[str]:
    """Return the names of operations in a text."""
    return frozenset(text.split())
