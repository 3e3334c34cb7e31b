"""Figures of results in publication quality, made with matplotlib. Never imports torch.

    bars(result)           number of units of a layer that detect each concept: the paper's bar graph
    layers(results)        unique detectors by category, a row for each layer of each run
    depth(results)         unique detectors over the layers of each run, with intervals and null
    iou(result)            distribution of IoU over the units, with the limit as a line
    units(result, ...)     contact sheet of chosen units
    overlap(result, ...)   how the IoU of a unit comes about, on its top images
    matched_units(a, b)    units of two runs that respond to the same images, with their top images
    concept_scatter(a, b)  the best IoU of every concept in two runs
    sensitivity(result)    detectors as a function of quantile and IoU
    segmented_image(pixels, {layer: segmentation})    an image segmented by the units of layers
    intervention(table)    areas of concepts where units of a generator are changed, with controls
    unit_map(result)       units of a layer in two dimensions: near units respond to the same images

    save(figure, "figure.pdf")    PDF, SVG (with text as text) or PNG

Each takes its ``width`` in inches and keeps its type sizes in points at any width: 3.3 is one column of a paper, 6.8
are two. Colors can be told apart with the common color vision deficiencies; ``colors="paper"`` takes the colors of the
authors' graphs. Figures do not use pyplot: no global state is changed, and no window or backend is needed. A notebook
shows a figure as SVG. Names are loaded when they are first used: a table in the terminal does not load matplotlib.

Source: Bau et al. 2017 :cite:p:`bau2017network`, its bar graphs of unique detectors and of concepts.
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
