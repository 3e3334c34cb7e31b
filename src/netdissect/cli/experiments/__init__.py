"""`netdissect experiment NAME ...`: the paper's experiments, one command each.

options.py     options that several commands share, and how networks are named
finish.py      save an outcome, print its verdict and where the files are
"""

from netdissect.cli.experiments.app import app

__all__ = ["app"]
