"""The networks whose speed is measured, and their layers."""

from typing import NamedTuple


class Measured(NamedTuple):
    """A network as `netdissect run` names it.

    Attributes
    ----------
    spec
        Its name.
    weights
        None: its own. ``none``: random ones, which take the same time.
    layers
        Ten layers in the order of the network; the last is the single one of most measurements.
    five
        Indices of five of them.
    """

    spec: str
    weights: str | None
    layers: tuple[str, ...]
    five: tuple[int, ...]

    def chosen(self, count: int) -> tuple[str, ...]:
        """Return one, five or ten layers."""
        if count == 1:
            return self.layers[-1:]
        return tuple(self.layers[index] for index in self.five) if count == 5 else self.layers

    @property
    def options(self) -> tuple[str, ...]:
        """Return the option that loads its weights."""
        return () if self.weights is None else ("--weights", self.weights)


NETWORKS = {
    "efficientnet_lite0": Measured(
        "efficientnet_lite0", None, tuple(f"_blocks.{n}" for n in (2, 4, 5, 7, 8, 10, 11, 13, 14, 15)), (0, 1, 5, 8, 9)
    ),
    "resnet50": Measured(
        "torchvision:resnet50",
        "none",
        ("maxpool", "layer1.1", "layer1", "layer2.1", "layer2", "layer3.1", "layer3.3", "layer3", "layer4.1", "layer4"),
        (0, 2, 4, 7, 9),
    ),
    "convnext_tiny": Measured(
        "torchvision:convnext_tiny",
        "none",
        ("features.0", "features.1", "features.2", "features.3", "features.4", "features.5.2", "features.5.5",
         "features.5", "features.6", "features.7"),
        (0, 1, 3, 7, 9),
    ),
    "vit_small": Measured(
        "timm:vit_small_patch16_224", "none", tuple(f"blocks.{n}" for n in range(2, 12)), (1, 3, 5, 7, 9)
    ),
}  # fmt: skip
