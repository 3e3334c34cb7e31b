"""Adapters of segmenters: one module a library or format, each with ``load(spec, name, options) -> Segmenter``."""
