"""Rotate the basis of a layer and count detectors."""
