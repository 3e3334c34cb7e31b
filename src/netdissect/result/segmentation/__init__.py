"""Segmentations that `netdissect segment` composed from units, in their folder."""
