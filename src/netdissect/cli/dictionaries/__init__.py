"""Commands for dictionaries of a layer."""
