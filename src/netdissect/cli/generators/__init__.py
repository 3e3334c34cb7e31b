"""Commands for generators."""
