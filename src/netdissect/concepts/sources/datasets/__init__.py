"""One module for each published data set, read as its authors distribute it."""
