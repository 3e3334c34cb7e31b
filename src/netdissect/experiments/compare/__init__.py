"""Detectors of several networks."""
