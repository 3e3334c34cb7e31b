"""Whether concepts lie in single units or in directions of several: vectors of every concept, scored by IoU."""
