"""Settings of the process in which netdissect runs."""
