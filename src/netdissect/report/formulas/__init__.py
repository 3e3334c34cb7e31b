"""Formulas of units as tables, JSON, CSV and pages."""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
