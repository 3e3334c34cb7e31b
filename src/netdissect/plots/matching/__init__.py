"""Units of two runs that respond to the same images: unit_matching finds the pairs, pair_sheet draws them."""
