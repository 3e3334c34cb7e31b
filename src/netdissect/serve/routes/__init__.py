"""What the explorer answers at which address; the pages are in `netdissect.serve.pages`."""
