"""Concept data sets: images with labels of concepts, in Broden's layout.

    sources/ (labeled images in any layout) -> build/ -> data set -> dataset.py (ConceptData, Labels)

`broden_files.py` reads the tables and label maps, `inspect/` checks them, `transfer/` downloads, subsets and merges
data sets. `label_sets.py` holds the labels of an image in the form in which they are counted.
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
