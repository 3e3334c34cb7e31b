"""The experiments of the paper: a config in, a table out."""
