"""Which modules of a network are its stages and blocks, found by its structure and not by names."""
