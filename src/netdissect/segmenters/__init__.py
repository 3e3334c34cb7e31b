"""Segmenters: networks that label the pixels of images, in place of people.

spec -> load_segmenter -> Segmenter (segmenter.py), by one of adapters/
label_tables.py (names of classes, words) -> label_scores.py (scores of classes -> label maps)
segment_dataset.py (segment_images.py -> segmented_source.py, quadrants.py) -> data set in Broden's layout
mask_comparison.py   agreement with human masks
sample_dataset.py    the same of samples of a generator; sample_cost.py: what it takes
recorded_segmenter.py, color_labels.py   the segmenter of a data set, loaded again; colors beside its labels
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
