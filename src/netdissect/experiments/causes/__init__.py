"""Whether units of a generator that match a concept also cause it."""
