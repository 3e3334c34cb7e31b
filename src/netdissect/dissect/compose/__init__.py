"""Formulas of the units of a finished run: the tables of label sets, the searches and their statistics."""
