"""The command line: parse, call, print.

app.py        the commands, and how errors end
concepts.py   netdissect concepts ...
networks.py   options that name a network; netdissect layers
run.py        netdissect run
results.py    netdissect show, count, export, report
serve.py      netdissect serve
progress.py   progress bars
"""

from netdissect.cli.app import main

__all__ = ["main"]
