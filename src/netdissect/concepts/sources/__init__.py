"""One file a source: labeled pictures in the layout of their authors, as an iterator of samples."""
