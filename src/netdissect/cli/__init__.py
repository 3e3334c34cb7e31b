"""The command line: parse, call, print.

app.py             all commands, and how errors are printed
concepts.py        netdissect concepts ...
networks.py        netdissect layers
run.py             netdissect run, estimate
merge_shards.py    netdissect merge-shards
results.py         netdissect show, count, export, report
checks.py          netdissect diff, check, verify
figure.py          netdissect figure ...
experiment.py      netdissect experiment ...
reproduce.py       netdissect reproduce
evaluate/          netdissect evaluate
demo.py            netdissect demo
serve.py           netdissect serve
console.py, progress.py                output and progress bars
usage_errors.py                        errors of the parser, as all others
process_tuning.py                      settings of the process

Options come from the fields of models: see `netdissect.cli_options`.
"""

from netdissect.cli.process_tuning import freeze_gc

with freeze_gc():
    from netdissect.cli.app import main

__all__ = ["main"]
