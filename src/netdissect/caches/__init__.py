"""The cache folder: what a run keeps there for the next one, and what of it a user lists and clears."""
