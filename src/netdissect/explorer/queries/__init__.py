"""What the explorer computes for one request."""
