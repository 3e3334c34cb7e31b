"""Look a data set over: validation, statistics, contact sheets."""
