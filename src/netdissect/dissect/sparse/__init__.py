"""Layers whose units are mostly zero, of which only active cells are kept from the encoder to the counts."""
