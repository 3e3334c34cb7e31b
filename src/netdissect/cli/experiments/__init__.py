"""`netdissect experiment NAME ...`: the paper's experiments, one command each.

app.py         the commands, imported when they are asked for
options.py     what several commands take apart from their configurations, and how networks are named
finish.py      save an outcome, print its verdict and where the files are
"""

from netdissect.cli.experiments.app import app

__all__ = ["app"]
