"""Runs that the tests of labels share."""

from kept_runs import kept_run

__all__ = ["kept_run"]
