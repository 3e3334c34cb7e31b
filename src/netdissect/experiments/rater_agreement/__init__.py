"""Agreement of human raters with the labels of units."""
