"""Ratios measured side by side in one run, each with a check of its answer."""
