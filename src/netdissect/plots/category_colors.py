"""One color for each category, the same in every chart, chip and card."""

from collections.abc import Sequence

from netdissect.config import Palette

# Okabe and Ito's set: the colors can be told apart with the common color vision deficiencies.
CATEGORY_COLORS = {
    "object": "#0072B2",
    "part": "#D55E00",
    "scene": "#009E73",
    "material": "#CC79A7",
    "texture": "#E69F00",
    "color": "#56B4E9",
}
# As in the graphs of the authors' Caffe code (2017).
PAPER_COLORS = {
    "object": "#4B4CBF",
    "part": "#50BDAC",
    "scene": "#55B05B",
    "material": "#D4CF24",
    "texture": "#F0883B",
    "color": "#D92E2B",
}
OTHER_COLORS = ("#882255", "#999933", "#6A5ACD", "#8C564B", "#17A398", "#7A7A7A")


def category_colors(categories: Sequence[str], palette: Palette = "safe") -> dict[str, str]:
    """Return a color, as ``#RRGGBB``, for each category; categories not in the paper take further colors in turn.

    Parameters
    ----------
    categories
        Names.
    palette
        ``safe`` for color vision deficiencies, or ``paper``: as in the authors' graphs.

    >>> category_colors(["object", "garment"])
    {'object': '#0072B2', 'garment': '#882255'}
    """
    own = CATEGORY_COLORS if palette == "safe" else PAPER_COLORS
    others = [name for name in categories if name not in own]
    further = {name: OTHER_COLORS[index % len(OTHER_COLORS)] for index, name in enumerate(others)}
    return {name: own.get(name) or further[name] for name in categories}
