"""How long torch's threads wait for work without sleeping, in the processes of the command line."""

import os

SPINS = 10_000
"""Looks for work before a thread sleeps: longer than from one operation of a forward pass to the next, some 0.1 ms."""


def wait_briefly() -> None:
    """Have the threads of a forward pass leave the processor soon after it, unless the user says otherwise.

    Notes
    -----
    GNU OpenMP, with which torch computes, looks for work 300,000 times before a thread sleeps: some milliseconds, in
    which the threads that take in a batch have one processor less. It reads the variable when torch is
    imported; elsewhere nothing is changed.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
