"""Inspect a data set: `validate.py` checks its files, `inspect.py` adds statistics, `contact_sheet.py` draws images."""
