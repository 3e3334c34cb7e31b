"""Which input pixels a cell of a layer sees, and where its elements lie."""
