"""Which units a classification is attributed to."""
