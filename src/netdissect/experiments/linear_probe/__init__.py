"""Accuracy of linear probes and the number of detectors."""
