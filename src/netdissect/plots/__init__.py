"""Figures of results in publication quality, made with matplotlib. Never imports torch.

    bars(result)           number of units of a layer that detect each concept: the paper's bar graph
    layers(results)        unique detectors by category, a row for each layer of each run
    depth(results)         unique detectors over the layers of each run, with intervals and null
    iou(result)            distribution of IoU over the units, with the limit as a line
    units(result, ...)     contact sheet of chosen units
    overlap(result, ...)   how the IoU of a unit comes about, on its top images
    concept_scatter(a, b)  the best IoU of every concept in two runs
    sensitivity(result)    detectors as a function of quantile and IoU
    segmented_image(pixels, {layer: segmentation})    an image segmented by the units of layers
    unit_map(result)       units of a layer in two dimensions: near units respond to the same images

    save(figure, "figure.pdf")    PDF, SVG (with text as text) or PNG

Each takes its ``width`` in inches and keeps its type sizes in points at any width: 3.3 is one column of a paper, 6.8
are two. Colors can be told apart with the common color vision deficiencies; ``colors="paper"`` takes the colors of the
authors' graphs. Figures do not use pyplot: no global state is changed, and no window or backend is needed. A notebook
shows a figure as SVG.

Source: Bau et al. 2017 :cite:p:`bau2017network`, its bar graphs of unique detectors and of concepts.
"""

from netdissect.plots.bars import bars
from netdissect.plots.concept_scatter import concept_scatter
from netdissect.plots.depth import RUN_COLORS, depth
from netdissect.plots.formulas.formula_gains import formula_gains
from netdissect.plots.image_segmentation import Segment, Segmentation, segmented_image
from netdissect.plots.iou_histogram import iou
from netdissect.plots.layer_bars import layers
from netdissect.plots.sensitivity import RAMP, sensitivity
from netdissect.plots.style import FAINT, INK, PAPER, plain, save, svg
from netdissect.plots.unit_map import unit_map
from netdissect.plots.unit_sheet import overlap, units

__all__ = [
    "FAINT",
    "INK",
    "PAPER",
    "RAMP",
    "RUN_COLORS",
    "Segment",
    "Segmentation",
    "bars",
    "concept_scatter",
    "depth",
    "formula_gains",
    "iou",
    "layers",
    "overlap",
    "plain",
    "save",
    "segmented_image",
    "sensitivity",
    "svg",
    "unit_map",
    "units",
]
