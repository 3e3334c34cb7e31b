"""One look at the data: a stream of batches, exact thresholds, and the activation store."""
