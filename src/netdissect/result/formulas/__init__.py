"""Formulas of a finished run, and the tables from which they are found, in its folder ``formulas``."""
