"""Detectors under other seeds, dropout, batch normalization, widths, depths."""
