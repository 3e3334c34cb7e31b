"""A small run that kept its masks."""

from kept_runs import kept_run

__all__ = ["kept_run"]
