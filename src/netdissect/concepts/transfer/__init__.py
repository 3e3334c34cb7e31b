"""Download a data set, take a subset, merge several."""
