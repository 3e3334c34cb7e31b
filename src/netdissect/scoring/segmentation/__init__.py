"""Segmentations composed from units, and how well they agree with labels.

Each pixel gets the concept of its most active detector. Pages, figures and `netdissect segment` compose here.

    maps, DetectorLevels -> most_active -> ActiveDetectors -> segment_pixels -> ImageIntersections
    ImageIntersections and ImageLabelCounts of all images, label of each unit -> ConceptPixels -> mean_iou
"""
