"""Tasks that a network can be trained on: one backbone, and for each task its input, a head and a loss.

    make_task(name, backbone, labels) -> Task
    task(pixels, rows) -> Step (loss, accuracy)   # one batch, float

Supervised are ``scene`` (the class of the image) and ``object`` (the objects in it). The targets of the others come
from the image itself.

Everything random is drawn from torch's global generator, which the caller seeds and forks.
"""

from collections.abc import Callable
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from netdissect.extras import need
from netdissect.training.choices import TaskName
from netdissect.training.scene_net import preprocessing

losses = need("pytorch_metric_learning.losses", "experiments", "Training without labels")

HIDDEN = 128
CHROMA = 8  # steps of each chroma channel
CHROMA_RANGE = 0.3  # most chromas of photographs and of the synthetic data set lie within, on the scale -0.5..0.5
LUMINANCE = 16  # steps of the luminance
TEMPERATURE = 0.2
ORDERS = torch.tensor(list(permutations(range(4))))


class Step(NamedTuple):
    """The loss of one batch, and its accuracy; None: the task has no classes."""

    loss: Tensor
    accuracy: float | None


class Task(nn.Module):
    """A backbone with a head.

    Parameters
    ----------
    backbone
        Takes float32 (B, 3, H, W) of any size, returns (B, U, h, w).
    units
        U.
    """

    def __init__(self, backbone: nn.Module, units: int) -> None:
        super().__init__()
        self.backbone, self.units = backbone, units

    def maps(self, pixels: Tensor) -> Tensor:
        """Return the maps of the backbone for images, uint8 or float (B, 3, H, W) on the scale 0..255."""
        normalize = preprocessing(pixels.shape[-1])
        images = normalize(pixels.round().clamp(0, 255).to(torch.uint8))
        maps: Tensor = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return maps

    def pooled(self, pixels: Tensor) -> Tensor:
        """Return each unit's maximum over the image, as in the scene network: (B, U)."""
        return self.maps(pixels).amax((2, 3))


class Supervised(Task):
    """Predict the class of the image, or every object in it.

    Parameters
    ----------
    backbone, units
        See `Task`.
    labels
        int64 (N,) of classes, or float32 (N, C) of objects: 1 if the image has it.
    """

    def __init__(self, backbone: nn.Module, units: int, labels: Tensor) -> None:
        super().__init__(backbone, units)
        self.labels = labels
        self.head = nn.Linear(units, labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1)

    def forward(self, pixels: Tensor, rows: Tensor) -> Step:
        """Train on one batch; see the module."""
        scores, labels = self.head(self.pooled(pixels)).float(), self.labels[rows]
        if labels.ndim == 2:
            return Step(functional.binary_cross_entropy_with_logits(scores, labels), None)
        return _classified(scores, labels)


class Rotation(Task):
    """Predict by how many quarter turns the image is rotated: Gidaris et al. 2018 :cite:p:`gidaris2018unsupervised`."""

    def __init__(self, backbone: nn.Module, units: int) -> None:
        super().__init__(backbone, units)
        self.head = nn.Linear(units, 4)

    def forward(self, pixels: Tensor, rows: Tensor) -> Step:  # noqa: ARG002 - every task is called alike
        """Train on one batch; see the module."""
        turns = torch.randint(4, (len(pixels),))
        rotated = torch.stack([one.rot90(turn, (1, 2)) for one, turn in zip(pixels, turns.tolist(), strict=True)])
        return _classified(self.head(self.pooled(rotated)).float(), turns)


class Context(Task):
    """Predict the position of a patch around another: Doersch et al. 2015 :cite:p:`doersch2015unsupervised`."""

    def __init__(self, backbone: nn.Module, units: int) -> None:
        super().__init__(backbone, units)
        self.head = _two_layers(2 * units, 8)

    def forward(self, pixels: Tensor, rows: Tensor) -> Step:  # noqa: ARG002
        """Train on one batch; see the module."""
        around = torch.randint(8, (len(pixels),))
        cells = around + (around >= 4)  # the fifth of nine is the middle
        pairs = torch.cat([_patches(pixels, torch.full_like(cells, 4), 3), _patches(pixels, cells, 3)])
        middle, other = self.pooled(pairs).chunk(2)
        return _classified(self.head(torch.cat([middle, other], 1)).float(), around)


class Jigsaw(Task):
    """Predict the order of four shuffled tiles, after Noroozi and Favaro 2016 :cite:p:`noroozi2016unsupervised`.

    Four tiles and all 24 orders, where they take nine tiles and a thousand orders.
    """

    def __init__(self, backbone: nn.Module, units: int) -> None:
        super().__init__(backbone, units)
        self.head = _two_layers(4 * units, len(ORDERS))

    def forward(self, pixels: Tensor, rows: Tensor) -> Step:  # noqa: ARG002
        """Train on one batch; see the module."""
        order = torch.randint(len(ORDERS), (len(pixels),))
        tiles = torch.cat([_patches(pixels, cells, 2) for cells in ORDERS[order].T])
        seen = self.pooled(tiles).view(4, len(pixels), self.units).transpose(0, 1).flatten(1)
        return _classified(self.head(seen).float(), order)


class CrossChannel(Task):
    """Predict color from light, and with `both` light from color.

    Colorization: Zhang et al. 2016 :cite:p:`zhang2016colorful`. Both ways: after the split-brain autoencoder of Zhang
    et al. 2017 :cite:p:`zhang2017splitbrain`, with one backbone that sees the light of half of the images and the
    color of the others, where they split the units in two.
    """

    def __init__(self, backbone: nn.Module, units: int, *, both: bool) -> None:
        super().__init__(backbone, units)
        self.chroma = nn.Conv2d(units, CHROMA**2, 1)
        self.luminance = nn.Conv2d(units, LUMINANCE, 1) if both else None

    def forward(self, pixels: Tensor, rows: Tensor) -> Step:  # noqa: ARG002
        """Train on one batch; see the module."""
        light, color = light_and_color(pixels.float() / 255)
        if self.luminance is None:
            return _per_cell(self.chroma(self.maps(255 * light.expand_as(pixels))), color_steps, color)
        half = len(pixels) // 2
        gray, tinted = 255 * light[:half].expand(-1, 3, -1, -1), 255 * even_light(color[half:])
        maps = self.maps(torch.cat([gray, tinted]))
        first = _per_cell(self.chroma(maps[:half]), color_steps, color[:half])
        second = _per_cell(self.luminance(maps[half:]), light_steps, light[half:])
        return Step(first.loss + second.loss, None)


class Inpainting(Task):
    """Paint what is missing: Pathak et al. 2016 :cite:p:`pathak2016context`, by the squared error alone."""

    def __init__(self, backbone: nn.Module, units: int) -> None:
        super().__init__(backbone, units)
        self.head = nn.Sequential(
            nn.Conv2d(units, HIDDEN, 1), nn.ReLU(), nn.Conv2d(HIDDEN, 3 * 8 * 8, 1), nn.PixelShuffle(8)
        )

    def forward(self, pixels: Tensor, rows: Tensor) -> Step:  # noqa: ARG002
        """Train on one batch; see the module."""
        size = pixels.shape[-1]
        side = size // 2
        tops, lefts = torch.randint(size - side, (2, len(pixels)))
        line = torch.arange(size)
        down, right = ((line >= one[:, None]) & (line < one[:, None] + side) for one in (tops, lefts))
        hidden = (down[:, None, :, None] & right[:, None, None, :]).expand_as(pixels)
        target = pixels.float() / 255
        painted = self.head(self.maps(torch.where(hidden, torch.full_like(pixels, 118), pixels))).float()
        painted = functional.interpolate(painted, size=(size, size), mode="nearest")
        return Step(functional.mse_loss(painted[hidden], target[hidden]), None)


class SimCLR(Task):
    """Find the other view of the same image in the batch: Chen et al. 2020 :cite:p:`chen2020simple`."""

    def __init__(self, backbone: nn.Module, units: int, size: int) -> None:
        from torchvision.transforms import v2  # importing it takes as long as torch itself

        super().__init__(backbone, units)
        self.head = _two_layers(units, HIDDEN)
        self.contrast = losses.NTXentLoss(temperature=TEMPERATURE)
        self.view = v2.Compose(
            [
                v2.RandomResizedCrop(size, scale=(0.3, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
                v2.RandomGrayscale(0.2),
            ]
        )

    def forward(self, pixels: Tensor, rows: Tensor) -> Step:  # noqa: ARG002
        """Train on one batch; see the module."""
        # One image at a time: a batch would get one crop and one color change.
        views = torch.stack([self.view(one) for one in (*pixels, *pixels)])
        found = functional.normalize(self.head(self.pooled(views)).float(), dim=1)
        same = torch.arange(len(pixels)).repeat(2)
        likeness = (found @ found.T).fill_diagonal_(-2).argmax(1)
        return Step(self.contrast(found, same), float((same[likeness] == same).float().mean()))


def make_task(name: TaskName, backbone: nn.Module, size: int, labels: Tensor | None = None) -> Task:
    """Put a head for a task on a backbone.

    Parameters
    ----------
    name
        Any but ``random``, which is not trained.
    backbone
        Takes (B, 3, H, W), returns maps.
    size
        Pixels of the square images.
    labels
        Of the supervised tasks; see `Supervised`.
    """
    with torch.no_grad():
        units = backbone(torch.zeros(1, 3, size, size)).shape[1]
    if labels is not None:
        return Supervised(backbone, units, labels)
    makers: dict[str, Callable[[], Task]] = {
        "rotation": lambda: Rotation(backbone, units),
        "context": lambda: Context(backbone, units),
        "jigsaw": lambda: Jigsaw(backbone, units),
        "colorization": lambda: CrossChannel(backbone, units, both=False),
        "crosschannel": lambda: CrossChannel(backbone, units, both=True),
        "inpainting": lambda: Inpainting(backbone, units),
        "simclr": lambda: SimCLR(backbone, units, size),
    }
    return makers[name]()


def light_and_color(images: Tensor) -> tuple[Tensor, Tensor]:
    """Split images, float (B, 3, H, W) in 0..1, into luminance (B, 1, H, W) and chroma (B, 2, H, W) in -0.5..0.5.

    Notes
    -----
    ITU-R BT.601, full range, as JPEG has it.
    """
    red, green, blue = images.unbind(1)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    return light[:, None], torch.stack([(blue - light) / 1.772, (red - light) / 1.402], 1)


def even_light(color: Tensor) -> Tensor:
    """Return images of these chromas with a luminance of one half everywhere, (B, 3, H, W) in 0..1."""
    blue, red = 0.5 + 1.772 * color[:, 0], 0.5 + 1.402 * color[:, 1]
    green = (0.5 - 0.299 * red - 0.114 * blue) / 0.587
    return torch.stack([red, green, blue], 1).clamp(0, 1)


def color_steps(color: Tensor) -> Tensor:
    """Return the index of chromas (B, 2, h, w) in a table of 8 x 8, int64 (B, h, w)."""
    steps = ((color / (2 * CHROMA_RANGE) + 0.5) * CHROMA).long().clamp(0, CHROMA - 1)
    return CHROMA * steps[:, 0] + steps[:, 1]


def light_steps(light: Tensor) -> Tensor:
    """Return luminances (B, 1, h, w) in 16 steps, int64 (B, h, w)."""
    return (light[:, 0] * LUMINANCE).long().clamp(0, LUMINANCE - 1)


def _classified(scores: Tensor, labels: Tensor) -> Step:
    accuracy = float((scores.argmax(1) == labels).float().mean())
    return Step(functional.cross_entropy(scores, labels), accuracy)


def _per_cell(scores: Tensor, steps: Callable[[Tensor], Tensor], target: Tensor) -> Step:
    """Compare scores (B, C, h, w) with the mean of a target (B, K, H, W) over each cell."""
    cells = functional.adaptive_avg_pool2d(target, (scores.shape[2], scores.shape[3]))
    return _classified(scores.float(), steps(cells))


def _patches(pixels: Tensor, cells: Tensor, side: int) -> Tensor:
    """Cut from each image a patch out of one cell of a side x side table, somewhere in the cell.

    A gap of a quarter of the cell keeps edges from showing which patches touch.
    """
    cell = pixels.shape[-1] // side
    size = cell - cell // 4
    shifts = torch.randint(cell - size + 1, (2, len(pixels)))
    tops, lefts = cells // side * cell + shifts[0], cells % side * cell + shifts[1]
    cut = zip(pixels, tops.tolist(), lefts.tolist(), strict=True)
    return torch.stack([one[:, top : top + size, left : left + size] for one, top, left in cut])


def _two_layers(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))
