"""Whether a change of one cell of a generator's layer changes the output where the cell is said to be.

    16 copies of two samples, one cell of the layer changed in each -> where the output changes -> LayoutCheck

This is the layout check of networks that take images, in reverse: there a spot on the image is followed to the cells
that respond, here a cell to the pixels that change.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from netdissect.concepts import Size
from netdissect.models.generators.generator import Generator
from netdissect.models.receptive_field.layout_check import LayoutCheck, check_layout, half_pixel
from netdissect.models.receptive_field.spot_probe import IMAGES, PAIRS, Floats, SpotProbe
from netdissect.models.structure.layer import Layer
from netdissect.models.surgery.layer_edits import LayerEditor, addresses, layer_editor

SPOTS = 2 * PAIRS
FEWEST_BLOCKS = 8
"""Blocks of pixels along a side: a change is located to a block, which has the size of a cell or less."""
STRENGTH = 3.0
"""By which a unit changes in the cell, in its standard deviations."""


def check_cells(generator: Generator, layer: Layer, samples: Tensor) -> LayoutCheck:
    """Compare where the output changes with where the cells of a layer are said to be.

    Parameters
    ----------
    generator
        Within `Network.prepared`.
    layer
        With a map of more than one cell.
    samples : int64 (2, 2)
        Seeds and indices of two samples.

    Returns
    -------
    LayoutCheck
        Displacements are in blocks of pixels of the size of a cell, or less where the map has fewer than 8 cells along
        a side.
    """
    assert layer.grid is not None  # noqa: S101 - image-level units have no cells
    cells, original = _chosen_cells(layer.grid), np.arange(SPOTS) % IMAGES
    size = generator.latent_input.size
    blocks = Size(*(side * -(-FEWEST_BLOCKS // side) for side in layer.grid))
    blocks = Size(*(min(side, most) for side, most in zip(blocks, size, strict=True)))
    editor = layer_editor(generator, layer)
    change = partial(_changed, layer=layer, cells=cells, scales=_scales(editor, layer, samples))
    plain, changed = editor.outputs(samples[torch.from_numpy(original)], [torch.clone, change])
    difference = (_image(generator, changed) - _image(generator, plain)).abs().mean(1, keepdim=True)
    by_block = torch.nn.functional.adaptive_avg_pool2d(difference, (blocks.height, blocks.width))[:, 0]
    responses: Floats = by_block.double().cpu().numpy()
    probe = SpotProbe(np.empty(0, np.uint8), original, _centers(cells, layer.grid, size))
    return check_layout(responses, half_pixel(blocks, size), size, probe)


def _chosen_cells(grid: Size) -> list[tuple[int, int]]:
    """Return sixteen cells over the whole map, in pairs that are symmetric about its center."""
    drawn = np.random.default_rng(0).random((PAIRS, 2))
    cells = []
    for pair, within in enumerate(drawn):
        row, column = (np.array(divmod(pair, 4)) + within) / 4 * grid
        cells += [(int(row), int(column)), (grid.height - 1 - int(row), grid.width - 1 - int(column))]
    return cells


def _centers(cells: list[tuple[int, int]], grid: Size, size: Size) -> Floats:
    """Return the centers of cells in pixels of the output, float64 (16, 2)."""
    steps = np.array(size) / np.array(grid)
    return np.asarray((np.array(cells, np.float64) + 0.5) * steps - 0.5)


def _scales(editor: LayerEditor, layer: Layer, samples: Tensor) -> Tensor:
    """Return by how much each unit is changed, float (U,), with alternating signs."""
    kept: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        kept.append(output.flatten()[addresses(output, layer)])
        return output.clone()

    list(editor.outputs(samples, [keep]))
    deviations = kept[0].float().std(dim=(0, 2, 3), correction=0)
    signs = 1.0 - 2.0 * (torch.arange(len(deviations), device=deviations.device) % 2)
    return STRENGTH * deviations * signs


def _changed(output: Tensor, *, layer: Layer, cells: list[tuple[int, int]], scales: Tensor) -> Tensor:
    """Return a copy of a layer's output with one cell of each image changed."""
    flat, where = output.flatten().clone(), addresses(output, layer)
    for image, (row, column) in enumerate(cells):
        flat[where[image, :, row, column]] += scales.to(flat.dtype)
    return flat.reshape(output.shape)


def _image(generator: Generator, output: object) -> Tensor:
    """Return an output as float (B, C, H, W), of the values that pixels can have."""
    return generator.pixels(output).permute(0, 3, 1, 2).float()
