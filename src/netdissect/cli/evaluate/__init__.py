"""`netdissect evaluate`."""
