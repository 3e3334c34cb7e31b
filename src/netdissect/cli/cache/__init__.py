"""`netdissect cache`."""
