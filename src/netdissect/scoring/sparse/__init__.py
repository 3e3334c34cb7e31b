"""Counting of maps of which only the active cells are kept."""
