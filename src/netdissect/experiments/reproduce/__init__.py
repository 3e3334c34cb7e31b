"""All experiments of the paper, at synthetic scale or on own networks and data."""
