"""Numbers: integer tallies that add up, IoU, labels and detectors."""
