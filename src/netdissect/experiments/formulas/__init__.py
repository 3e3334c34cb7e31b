"""Detectors of each layer of a network."""
