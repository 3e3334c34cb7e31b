"""The typed result of one run, and the tables that earlier programs wrote."""
