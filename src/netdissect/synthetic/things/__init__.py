"""The objects of synthetic scenes, one module for each group."""
